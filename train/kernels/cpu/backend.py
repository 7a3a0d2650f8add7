"""The step on the CPU: one dense product, everything after it proportional to the active entries.

    entries         pairs (latent, row) with z > θ − ε/2, found in the encoder's product    encode
    decode          x̂ of every row, over the latents that are here                          rows
    reduce          x̂ over all latents: `Share.reduce`, nothing to do for a process alone
    differentiate   the residual e = 2(x̂ − target)/batch, df = e·W_dec of the entries       rows
    latents         sums over a latent's entries: dW_enc = Σ dz·x, dW_dec = Σ f·e,         update
                    db_enc = Σ dz, dθ by the window and λ; then projection, Adam and
                    renormalisation in the same pass

A latent without entries has zero gradient; with β1 = 0 its update is zero and its second moment
only decays, which `last_update` remembers. While many latents fire the dense path is the faster
one: see `dense`.
"""

import numpy as np
import torch
from torch import Tensor

from ....machine import has_bfloat16_units
from ..result import StepResult, report
from ..row_blocks import ListedEntries, RowBlocks, fired
from ..settings import StepSettings
from ..shards import Node, Share
from ..state import TrainState
from . import dense, encode
from .entries import ByRow, Entries, list_by_row
from .finish import latents_of, owned, rates, skip_output, update_shared
from .rows import Decoder, Rows, Targets, pass_rows
from .threads import blocks_for, run_blocks
from .update import Penalties, Rounded, update_touched
from .workspace import Workspace

PATHS = ("dense", "sparse", "screened", "bfloat16")
# Share of the latents with an entry, per row, above which five dense products are the faster step
# (processor time on Zen 5: equal at 0.10 at both 2,048 × 576 × 8,192 and 1,024 × 2,304 × 16,384).
DENSE_ABOVE = 0.10
# Share above which recomputing the proposals costs what bfloat16 saves (equal at 0.04 … 0.06).
SCREEN_BELOW = 0.05
# Rows whose entries are counted before the first step.
CALIBRATION_ROWS = 64


_workspace = Workspace()


def step(
    state: TrainState,
    x: Tensor,
    target: Tensor,
    settings: StepSettings,
    share: Share,
    path: str = "",
) -> StepResult:
    """One step by the given path, or by the one that `choose_path` says; see `kernels.step`."""
    path = path or choose_path(state, x, settings, share)
    if path == "dense":
        return dense.step(state, x, target, settings, share, _workspace)
    return _sparse_step(state, x, target, settings, share, path)


def choose_path(state: TrainState, x: Tensor, settings: StepSettings, share: Share) -> str:
    """dense, sparse, screened or bfloat16, by the entries per row of the last step; before the
    first step, of the batch's first rows.

    A function of state and data alone, not of timings: a rerun, a resumed run and every rank take
    the same path. All paths compute the same step, so a change of path does not disturb training.
    """
    if settings.encoder == "tf32":
        raise ValueError("encoder tf32 needs a CUDA device; choose bfloat16, screened or float32")
    entries_per_row = state.entries_per_row
    if entries_per_row < 0:
        rows = x[:CALIBRATION_ROWS]
        found = encode.find_entries(state, rows, settings, share, _workspace)
        entries_per_row = _entries_per_row(found.entries, rows, share)
    if entries_per_row / share.d_sae > DENSE_ABOVE:
        return "dense"
    if settings.encoder == "auto":
        screens = entries_per_row / share.d_sae < SCREEN_BELOW and has_bfloat16_units()
        return "screened" if screens else "sparse"
    return {"float32": "sparse"}.get(settings.encoder, settings.encoder)


def _sparse_step(
    state: TrainState,
    x: Tensor,
    target: Tensor,
    settings: StepSettings,
    share: Share,
    path: str,
) -> StepResult:
    """The step over the entries, which are found as `path` says."""
    batch, p = x.shape[0], state.parameters
    mine = share.my_rows(batch)
    found = encode.find_entries(state, x[mine], settings, share, _workspace, path)
    skip = skip_output(state, x[mine]).numpy()
    targets = Targets(target[mine].numpy(), p.b_dec.numpy(), skip, np.float32(2 / batch))
    rows = _pass_rows(state, found.entries, targets, share)
    if share.rows is not None:
        x_in = x - p.b_dec if settings.pre_bias else x
        found, rows = _of_all_rows(share.rows, state, x_in, found, rows)
    x_in, entries, n_fired = found
    row_loss, row_l0 = torch.from_numpy(rows.loss), torch.from_numpy(rows.l0)
    result, slopes = report(row_loss, row_l0, n_fired, settings, share, f"cpu/{path}")
    if not result.finite:
        return result
    entries_per_row = _entries_per_row(entries, x, share)
    now = rates(state, settings)
    half_bandwidth = np.float32(settings.bandwidth / 2)
    encoder_bias = torch.empty(len(share.shards()), p.d_in)
    run_blocks(
        update_touched,
        len(encoder_bias),
        share.size,
        entries,
        x_in.numpy(),
        rows.residual,
        targets.scale,
        Penalties(half_bandwidth, slopes.row.numpy(), slopes.latent.numpy()),
        owned(state, now, _maintained_copy(state, path)),
        encoder_bias.numpy(),
    )
    # db_dec = Σ e, and through the encoder's input −Σ db_enc·W_enc row
    b_dec = torch.from_numpy(rows.column_sum).sum(0).mul_(2 / batch)
    if settings.pre_bias:
        b_dec += share.add(lambda shard: encoder_bias[shard - share.first])
    update_shared(state, x, torch.from_numpy(rows.residual), b_dec.numpy(), now)
    state.entries_per_row = entries_per_row
    return result


def _pass_rows(state: TrainState, entries: Entries, targets: Targets, share: Share) -> Rows:
    """Decodes all rows, adds up x̂ over the ranks, and differentiates."""
    p, (batch, d_out) = state.parameters, targets.target.shape
    by_row, latents = _by_row(entries, batch), latents_of(p)
    blocks = blocks_for(2 * batch * d_out)
    found = Rows(
        _workspace.tensor("residual", batch, d_out).numpy(),
        np.empty(batch, np.float32),
        np.empty(batch, np.int64),
        np.empty((blocks, d_out), np.float32),
    )

    def run(shards: range, decodes: bool, differentiates: bool, rows: Rows) -> None:
        first, last = share.latents(shards[0]).start, share.latents(shards[-1]).stop
        decoder = Decoder(latents.theta, latents.W_dec, first, last, share.size, share.first)
        stages = (decodes, differentiates, entries, by_row, decoder, targets, rows)
        run_blocks(pass_rows, blocks, *stages)

    if share.is_whole:
        run(share.shards(), True, True, found)
        return found
    x_hats, l0 = [], torch.zeros(batch, dtype=torch.int64)
    for shards in share.nodes():
        x_hat = torch.empty(batch, d_out)
        run(shards, True, False, found._replace(residual=x_hat.numpy()))
        x_hats.append(Node(shards[0], x_hat))
        l0 += torch.from_numpy(found.l0)
    found = found._replace(residual=share.reduce(x_hats).numpy(), l0=share.count(l0).numpy())
    run(share.shards(), False, True, found)
    return found


def _of_all_rows(
    blocks: RowBlocks, state: TrainState, x_in: Tensor, mine: encode.Encoded, rows: Rows
) -> tuple[encode.Encoded, Rows]:
    """Joins what each rank has found about its own rows into what one process would have found
    about the whole batch."""
    batch, theta = x_in.shape[0], state.parameters.theta
    own = ListedEntries(*map(torch.from_numpy, mine.entries))
    entries = blocks.listed(own, batch * len(theta), batch, theta)
    assert entries is not None, "any number may be listed"
    residual, loss, l0 = map(torch.from_numpy, rows[:3])
    residual, loss, l0 = blocks.residuals(residual, loss, l0, batch)
    found = encode.Encoded(
        x_in, Entries(*(tensor.numpy() for tensor in entries)), fired(entries, theta)
    )
    column_sum = residual.sum(0, keepdim=True)
    return found, Rows(residual.numpy(), loss.numpy(), l0.numpy(), column_sum.numpy())


def _entries_per_row(entries: Entries, x: Tensor, share: Share) -> float:
    """Entries per row, over all latents."""
    n = torch.tensor(int(entries.length.sum()))
    return float(share.count(n)) / x.shape[0]


def _by_row(entries: Entries, batch: int) -> ByRow:
    """The entries listed by row."""
    n = entries.rows.size
    start = np.empty(batch + 1, np.int64)
    entry = _workspace.grown("entry", n, torch.int32)
    latent = _workspace.grown("latent", n, torch.int32)
    by_row = ByRow(start, entry, latent)
    list_by_row(entries, by_row)
    return by_row


def _maintained_copy(state: TrainState, path: str) -> Rounded:
    """The bfloat16 copy that the update maintains, or an empty one if this path needs none."""
    if path in ("screened", "bfloat16"):
        return encode.rounded_copy(state)
    state.scratch.clear()
    return encode.no_copy()
