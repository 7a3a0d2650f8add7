"""The encoder on CUDA: a product per shard of latents (cuBLAS), and the entries found in it.

Path "screened" multiplies in bfloat16 and recomputes the proposals in float32; see `screen`.
"""

# pyright: reportArgumentType=false, reportCallIssue=false
# (kernels are launched through triton.jit, which the checker sees as the plain function)

from collections.abc import Iterator

import triton
from torch import Tensor

from ..precision import float32_sums, products
from ..screen import entry_edge, proposal_edge, row_terms
from ..shards import Share, product
from ..state import TrainState
from . import entries as kernels
from .lists import Entries, make_copy, slices

# So many entries are always listed. Above this share of all pairs (latent, row) the lists (40 bytes
# an entry while they are sorted) need more memory than the dense step (16 bytes a pair), which is
# then taken.
ALWAYS_LISTED = 2**24
LISTED_BELOW = 0.4
# Products and sums are fused. Said here because Triton's default has changed between versions, and
# the tests' tolerances were set with fusion.
FUSED = {"enable_fp_fusion": True}
# Rows a scanning program reads at once.
BLOCK = 1024


def whole_row(d: int) -> dict[str, int | bool]:
    """Compile options of a kernel that holds whole rows of width d."""
    return {"WIDTH": triton.next_power_of_2(d), "AT_ONCE": at_once(d), **FUSED}


def whole_batch(batch: int) -> dict[str, int | bool]:
    """Compile options of a kernel that scans all rows for a latent's entries.

    Nothing is fused. In a sum of two products the compiler may fuse either one and chooses for each
    kernel, but one kernel must count exactly the entries that another writes.
    """
    return {"batch": batch, "BLOCK": BLOCK, "enable_fp_fusion": False}


def at_once(d: int) -> int:
    """Entries whose rows a program loads at once: several, to hide the loads' latency, but no more
    than fit into registers."""
    return 4 if d <= 4096 else 2


def _find_entries(
    state: TrainState, x: Tensor, half_bandwidth: float, share: Share
) -> Entries | None:
    """All entries by a float32 product."""
    return _list_entries(state, state.parameters.W_enc.t(), x, half_bandwidth, share)


def _tf32_entries(
    state: TrainState, x: Tensor, half_bandwidth: float, share: Share
) -> Entries | None:
    """All entries by a product of factors rounded to TF32."""
    with products(cuda="tf32"):
        return _find_entries(state, x, half_bandwidth, share)


def _round_entries(
    state: TrainState, x: Tensor, half_bandwidth: float, share: Share
) -> Entries | None:
    """The entries of a bfloat16 product, whose z is its output (rounded to bfloat16) plus bias."""
    with float32_sums():
        return _list_entries(state, make_copy(state).weights, x.bfloat16(), half_bandwidth, share)


def _list_entries(
    state: TrainState, W: Tensor, x: Tensor, half_bandwidth: float, share: Share
) -> Entries | None:
    """The entries of the product of W [d_sae, d_in] with rows of its dtype."""
    p, edge = state.parameters, entry_edge(state.parameters.theta, half_bandwidth)
    entries = Entries.empty(p.d_sae, most_entries(share, x.shape[0]), x.device)
    for mine in _pieces(share, x.shape[0]):
        found = product(W[mine], x.t())
        grid, own = (found.shape[0],), (p.b_enc[mine], edge[mine])
        start, length = entries.start[mine], entries.length[mine]
        size = whole_batch(x.shape[0])
        kernels.count_entries[grid](found, *own, length, **size)
        if not entries.place(mine):
            return None
        kernels.fill_entries[grid](found, *own, start, entries.rows, entries.z, **size)
    return entries


def _screen_entries(
    state: TrainState, x: Tensor, half_bandwidth: float, share: Share
) -> Entries | None:
    """The same entries with the same z, proposed by a bfloat16 product."""
    p = state.parameters
    edge, copy, x16 = entry_edge(p.theta, half_bandwidth), make_copy(state), x.bfloat16()
    terms = row_terms(x, x16)
    low = proposal_edge(edge, p.b_enc, terms, copy.rounded_norm, copy.error_norm)
    entries = Entries.empty(p.d_sae, most_entries(share, x.shape[0]), x.device)
    with float32_sums():  # the bound holds for them only
        for mine in _pieces(share, x.shape[0]):
            found = product(copy.weights[mine], x16.t())
            bound = (low[mine], *terms, copy.rounded_norm[mine], copy.error_norm[mine])
            start, length = entries.start[mine], entries.length[mine]
            grid, size = (found.shape[0],), whole_batch(x.shape[0])
            kernels.count_proposals[grid](found, *bound, length, **size)
            if not entries.place(mine):
                return None
            kernels.fill_proposals[grid](found, *bound, start, entries.rows, **size)
    kernels.keep_entries[(p.d_sae,)](
        x, p.W_enc.t(), p.b_enc, edge, entries.start, entries.length, entries.rows, entries.z,
        x.shape[0], p.d_in, **whole_row(p.d_in),
    )  # fmt: skip
    return entries


def _pieces(share: Share, batch: int) -> Iterator[slice]:
    """Latents whose products are made at once: shards, or equal parts of larger shards."""
    # Their shape does not depend on how many shards this rank owns: with another shape a library
    # may add in another order.
    for shard in map(share.latents, share.shards()):
        for part in slices(shard.stop - shard.start, batch):
            yield slice(shard.start + part.start, shard.start + part.stop)


def most_entries(share: Share, batch: int) -> int:
    """The number of entries of all ranks above which the dense step is taken."""
    return max(ALWAYS_LISTED, int(LISTED_BELOW * share.d_sae * batch))


FIND = {
    "sparse": _find_entries,
    "screened": _screen_entries,
    "bfloat16": _round_entries,
    "tf32": _tf32_entries,
}
"""By path: the function (state, rows of the encoder's input, ε/2, share) -> entries, or None if
they are more than may be listed."""
