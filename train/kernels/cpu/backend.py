"""The step on the CPU: one dense product, everything after it proportional to the active entries.

    entries   pairs (latent, row) with z > θ − ε/2, found in the encoder's product    cpu_encode
    rows      x̂, the residual e = 2(x̂ − target)/batch, df = e·W_dec of the entries    cpu_update
    latents   sums over a latent's entries: dW_enc = Σ dz·x, dW_dec = Σ f·e, db_enc = Σ dz, dθ by
              the window; then projection, Adam and renormalisation in the same pass

A latent without entries has zero gradient; with β1 = 0 its update is zero and its second moment
only decays, which `last_update` remembers. While many latents fire the dense path is the faster
one: see `cpu_dense`.
"""

import threading

import numpy as np
import torch
from torch import Tensor

from ....machine import has_bfloat16_units
from ..result import StepResult, report
from ..settings import StepSettings
from ..state import TrainState
from . import dense as cpu_dense
from . import encode as cpu_encode
from .entries import ByRow, Entries, list_by_row
from .finish import latents_of, rates, skip_output, update_shared
from .threads import blocks_for, run_blocks
from .update import Rounded, reconstruct, update_touched
from .workspace import Workspace

PATHS = ("dense", "sparse", "screened", "bfloat16")
# Share of the latents with an entry, per row, above which five dense products are the faster step
# (processor time on Zen 5: equal at 0.10 at both 2,048 × 576 × 8,192 and 1,024 × 2,304 × 16,384).
DENSE_ABOVE = 0.10
# Share above which recomputing the proposals costs what bfloat16 saves (equal at 0.04 … 0.06).
SCREEN_BELOW = 0.05
# Rows whose density is measured where no step has measured it yet.
CALIBRATION_ROWS = 64
# Blocks of the loops over rows and latents. Fixed: sums are kept per block, so results do not
# depend on the number of threads.
N_BLOCKS = 64

_FIND = {
    "sparse": cpu_encode.find_entries,
    "screened": cpu_encode.screen_entries,
    "bfloat16": cpu_encode.round_entries,
}
_workspace = Workspace()
_one_at_a_time = threading.Lock()


def step(
    state: TrainState, x: Tensor, target: Tensor, settings: StepSettings, path: str = ""
) -> StepResult:
    """One step by the given path, or by the one that the density calls for; see `kernels.step`."""
    with _one_at_a_time:
        path = path or choose_path(state, x, settings)
        if path == "dense":
            return cpu_dense.step(state, x, target, settings, _workspace)
        return _sparse_step(state, x, target, settings, path)


def choose_path(state: TrainState, x: Tensor, settings: StepSettings) -> str:
    """dense, sparse, screened or bfloat16, by the last step's density (or that of some rows).

    A function of state and data alone, not of timings: a rerun or a resumed run takes the same
    path, and since all paths compute the same step the switch makes no jump.
    """
    if settings.encoder == "tf32":
        raise ValueError("encoder tf32 needs a CUDA device; choose bfloat16, screened or float32")
    density = state.density
    if density < 0:
        rows, half = x[:CALIBRATION_ROWS], settings.bandwidth / 2
        found = cpu_encode.find_entries(state, rows, half, settings.pre_bias, _workspace)
        density = float(found.entries.length.sum()) / rows.shape[0]
    share = density / state.parameters.d_sae
    if share > DENSE_ABOVE:
        return "dense"
    if settings.encoder == "auto":
        return "screened" if share < SCREEN_BELOW and has_bfloat16_units() else "sparse"
    return {"float32": "sparse"}.get(settings.encoder, settings.encoder)


def _sparse_step(
    state: TrainState, x: Tensor, target: Tensor, settings: StepSettings, path: str
) -> StepResult:
    """The step over the entries; path says how they are found."""
    find = _FIND[path]
    half, batch, p = settings.bandwidth / 2, x.shape[0], state.parameters
    x_in, entries, fired = find(state, x, half, settings.pre_bias, _workspace)
    latents, scale = latents_of(p), np.float32(2 / batch)
    residual = _workspace.tensor("residual", batch, p.d_out)
    row_loss, row_l0 = torch.empty(batch), torch.empty(batch, dtype=torch.int64)
    blocks = blocks_for(2 * batch * p.d_out)
    column_sum = torch.empty(blocks, p.d_out)
    run_blocks(
        reconstruct,
        blocks,
        entries,
        _by_row(entries, batch),
        latents.theta,
        latents.W_dec,
        p.b_dec.numpy(),
        skip_output(state, x).numpy(),
        target.numpy(),
        scale,
        residual.numpy(),
        row_loss.numpy(),
        row_l0.numpy(),
        column_sum.numpy(),
    )
    result, slopes = report(row_loss, row_l0, fired, settings, f"cpu/{path}")
    if not result.finite:
        return result
    now = rates(state, settings)
    blocks = blocks_for(p.d_sae * (p.d_in + p.d_out))
    encoder_bias = np.empty((blocks, p.d_in), np.float32)
    run_blocks(
        update_touched,
        blocks,
        entries,
        x_in.numpy(),
        residual.numpy(),
        scale,
        np.float32(half),
        slopes.row.numpy(),
        slopes.latent.numpy(),
        latents,
        latents_of(state.second_moments),
        state.last_update.numpy(),
        now,
        _maintained_copy(state, path),
        encoder_bias,
    )
    b_dec = column_sum.sum(0).mul_(2 / batch).numpy()
    if settings.pre_bias:
        b_dec += encoder_bias.sum(0)
    update_shared(state, x, residual, b_dec, now)
    state.density = float(entries.length.sum()) / batch
    return result


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
    """The bfloat16 copy for the update to keep up, or an empty one if this path has none."""
    if path in ("screened", "bfloat16"):
        return cpu_encode.rounded_copy(state)
    state.scratch.clear()
    return cpu_encode.no_copy()
