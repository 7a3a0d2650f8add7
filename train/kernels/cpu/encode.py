"""The encoder on the CPU: products, and the entries found in them.

The product is made for a slice of latents at a time, shard by shard, latents first
([latents, batch]): memory of the size [batch, d_sae] is never needed, and each latent's entries
come out in order.

Path "screened" gives the numbers of "sparse": a bfloat16 product only proposes entries, see
`screen`. Path "bfloat16" takes the bfloat16 product as it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import llvmlite.binding
import numpy as np
import torch
from torch import Tensor

from ..precision import products
from ..screen import RowTerms, accumulation_error, entry_edge, proposal_edge
from ..settings import StepSettings
from ..shards import Share, product
from ..state import TrainState
from .entries import (
    Entries,
    Screen,
    keep_entries,
    list_entries,
    mark_entries,
    mark_proposals,
)
from .rows import prepare_rows
from .threads import blocks_for, run_blocks
from .update import Rounded, round_all
from .workspace import Workspace

# Numbers of a product made at once: memory stays bounded, and slices are so large that slicing
# does not slow the product (slices of 2^22 slow it by 10%).
SLICE_PRODUCTS = 2**24


class Encoded(NamedTuple):
    """What encoding a batch gives.

    Attributes:
        x_in: float32 [batch, d_in], the encoder's input: x − b_dec or x.
        entries: the entries.
        fired: int64 [owned latents], in how many rows each is active (z > θ).
    """

    x_in: Tensor
    entries: Entries
    fired: Tensor


def find_entries(
    state: TrainState,
    x: Tensor,
    settings: StepSettings,
    share: Share,
    workspace: Workspace,
    path: str = "sparse",
) -> Encoded:
    """All entries, z > θ − ε/2, of rows x float32 [batch, d_in].

    Args:
        state: only read.
        x: the rows, without pre_bias subtracted.
        settings: bandwidth ε and pre_bias.
        share: the latents owned.
        workspace: holds the result, until the next call.
        path: "sparse": by a float32 product. "screened": the same entries with the same z, proposed
            by a bfloat16 product. "bfloat16": z is that product (rounded to bfloat16) plus bias.
    """
    p, exact = state.parameters, path == "sparse"
    x_in, x16, terms = _encoder_input(state, x, settings.pre_bias, not exact, workspace)
    edge = entry_edge(p.theta, settings.bandwidth / 2)
    bias, theta = p.b_enc.numpy(), p.theta.numpy()
    start, length, fired = np.empty((3, p.d_sae), np.int64)
    if exact:
        low, screen, W, rows_in = edge, None, p.W_enc.t(), x_in
    else:
        low, screen, W = _screen(state, edge, terms, path)
        rows_in = x16
    used = 0
    for mine, z in _products(W, rows_in, share, workspace):
        marks, blocks = _marks(workspace, z), min(16, blocks_for(z.size // 4))
        out = (marks, length[mine])
        if screen is None:
            run_blocks(mark_entries, blocks, z, bias[mine], low[mine].numpy(), *out)
        else:
            run_blocks(mark_proposals, blocks, z, low[mine].numpy(), screen.of(mine), *out)
        used = _place(length[mine], start[mine], used)
        places = (theta[mine], start[mine], length[mine], *_entry_arrays(workspace, used))
        run_blocks(
            list_entries,
            blocks,
            marks,
            path != "screened",
            z,
            bias[mine],
            *places,
            fired[mine],
        )
    entries = _entries(workspace, start, length, used)
    if path == "screened":
        weights = (p.W_enc.t().numpy(), bias, edge.numpy(), theta)
        blocks = blocks_for(p.W_enc.numel())
        run_blocks(keep_entries, blocks, x_in.numpy(), *weights, entries, fired)
    return Encoded(x_in, entries, torch.from_numpy(fired))


def _screen(
    state: TrainState, edge: Tensor, terms: RowTerms, path: str
) -> tuple[Tensor, Screen, Tensor]:
    """The edge above which a bfloat16 product proposes an entry, the bound on the product's error,
    and the bfloat16 weights [latents, d_in]."""
    p, rounded = state.parameters, rounded_copy(state)
    norms = (rounded.rounded_norm, rounded.error_norm)
    if path == "bfloat16":
        # The product itself is z: its error is 0 by definition.
        terms = RowTerms(torch.zeros_like(terms.error), torch.zeros_like(terms.norm))
        norms = (np.zeros_like(norms[0]), np.zeros_like(norms[1]))
    low = proposal_edge(edge, p.b_enc, terms, *map(torch.from_numpy, norms))
    weights = torch.from_numpy(rounded.copy).view(torch.bfloat16)
    return low, Screen(terms.error.numpy(), terms.norm.numpy(), *norms), weights


def _products(
    W: Tensor, x: Tensor, share: Share, workspace: Workspace
) -> Iterator[tuple[slice, np.ndarray]]:
    """Slices of latents and their products with the rows [latents, batch]: float32, or the bits of
    bfloat16 as uint16."""
    for mine, pieces in _slices(share, x.shape[0]):
        shape = (mine.stop - mine.start, x.shape[0])
        z = workspace.tensor(f"product {W.dtype}", *shape, dtype=W.dtype)
        with fast_float32():
            # A piece's shape does not depend on how many shards this rank owns: with another shape
            # a library may add in another order.
            for piece in pieces:
                part = z[piece.start - mine.start : piece.stop - mine.start]
                product(W[piece], x.t(), out=part)
        exact = W.dtype == torch.float32
        yield mine, z.numpy() if exact else z.view(torch.int16).numpy().view(np.uint16)


def rounded_copy(state: TrainState) -> Rounded:
    """The bfloat16 copy of W_enc; made again if something other than the update wrote to W_enc."""
    W = state.parameters.W_enc.t()
    # The compiled update writes the copy too and leaves torch's version counter as it is; every
    # write through torch raises the counter.
    version = (W.data_ptr(), W._version)
    if state.scratch.get("rounded_version") != version:
        bits = W.numpy().view(np.uint32)
        norms = np.empty((2, W.shape[0]), np.float32)
        copy = torch.empty(W.shape, dtype=torch.int16)  # torch's memory is aligned, see `product`
        rounded = Rounded(bits, copy.numpy().view(np.uint16), norms[0], norms[1])
        run_blocks(round_all, blocks_for(W.numel()), W.numpy(), rounded)
        state.scratch.update(rounded=rounded, rounded_version=version)
    return state.scratch["rounded"]


def no_copy() -> Rounded:
    """An empty copy, for updates that maintain none."""
    norm = np.empty(0, np.float32)
    return Rounded(np.empty((0, 0), np.uint32), np.empty((0, 0), np.uint16), norm, norm)


@contextmanager
def fast_float32() -> Iterator[None]:
    """Within it, float32 products go to oneDNN where that is faster at full float32 accuracy."""
    with products(cpu="bf16" if _onednn_is_better() else "ieee"):
        yield


@cache
def _onednn_is_better() -> bool:
    """Whether this is an AMD processor on which "bf16" products have float32 accuracy.

    MKL does not use its fastest loops on AMD processors (oneDNN measured 1.9 times as fast on
    Zen 5). Decided by name and accuracy, not by timing, so that a rerun decides the same.
    """
    if not llvmlite.binding.get_host_cpu_name().startswith("znver"):
        return False
    a, b = torch.randn(2, 128, 512, generator=torch.Generator().manual_seed(0))
    with products(cpu="bf16"):
        error = (a @ b.t()).double() - a.double() @ b.double().t()
    return float(error.norm()) < 1e-6 * 128 * 512**0.5


def _encoder_input(
    state: TrainState, x: Tensor, pre_bias: bool, screened: bool, workspace: Workspace
) -> tuple[Tensor, Tensor, RowTerms]:
    """The encoder's input float32 [batch, d_in], its bfloat16 copy and the rows' terms of the
    bound; without `screened` the copy is empty and the terms are not set."""
    batch, d_in = x.shape
    out = workspace.tensor("encoder_input", batch, d_in)
    copy = (batch, d_in) if screened else (0, d_in)
    x16 = workspace.tensor("encoder_input_bfloat16", *copy, dtype=torch.bfloat16)
    terms = RowTerms(torch.empty(batch), torch.empty(batch))
    run_blocks(
        prepare_rows,
        blocks_for(x.numel()),
        x.contiguous().numpy(),
        state.parameters.b_dec.numpy()[: None if pre_bias else 0],
        np.float32(accumulation_error(x)),
        out.numpy(),
        out.numpy().view(np.uint32),
        x16.view(torch.int16).numpy().view(np.uint16),
        terms.error.numpy(),
        terms.norm.numpy(),
    )
    return out, x16, terms


def _marks(workspace: Workspace, product: np.ndarray) -> np.ndarray:
    """uint8 marks for a slice of products; rows are padded to a multiple of eight marks."""
    width = -(-product.shape[1] // 8) * 8
    return workspace.tensor("marks", product.shape[0], width, dtype=torch.uint8).numpy()


def _slices(share: Share, batch: int) -> Iterator[tuple[slice, list[slice]]]:
    """Slices of latents, in order, whose product with the batch has about SLICE_PRODUCTS numbers
    at most, and the pieces of each slice: shards, or equal parts of larger shards."""
    width = max(1, SLICE_PRODUCTS // batch)
    pieces: list[slice] = []
    for shard in share.shards():
        latents = share.latents(shard)
        for first in range(latents.start, latents.stop, width):
            piece = slice(first, min(first + width, latents.stop))
            if pieces and piece.stop - pieces[0].start > width:
                yield slice(pieces[0].start, piece.start), pieces
                pieces = []
            pieces.append(piece)
    yield slice(pieces[0].start, pieces[-1].stop), pieces


def _place(length: np.ndarray, start: np.ndarray, used: int) -> int:
    """Places the counted entries after the `used` ones; returns how many are used afterwards."""
    end = used + np.cumsum(length)
    start[:] = end - length
    return int(end[-1])


def _entry_arrays(workspace: Workspace, n: int) -> tuple[np.ndarray, np.ndarray]:
    """rows and z for n entries; those written so far are kept."""
    return workspace.grown("rows", n, torch.int32), workspace.grown("z", n, torch.float32)


def _entries(workspace: Workspace, start: np.ndarray, length: np.ndarray, n: int) -> Entries:
    """The entries, with room for n in all, gaps included; df is not set yet."""
    rows, z = _entry_arrays(workspace, n)
    return Entries(start, length, rows, z, workspace.grown("df", n, torch.float32))
