"""The dense path of the CPU step: five products, for while many latents fire.

The same step as the sparse path's, the gradients of W_enc and W_dec whole instead of latent by
latent: x̂ = f @ W_dec;  df = e @ W_decᵀ;  dW_dec = fᵀ @ e;  dW_enc = dzᵀ @ x.
"""

import numpy as np
import torch
from torch import Tensor

from ..result import Slopes, StepResult, report
from ..settings import StepSettings
from ..state import TrainState
from .encode import fast_float32, no_copy
from .entries import share
from .finish import latents_of, rates, skip_output, update_shared
from .threads import blocks_for, jit, run_blocks
from .update import update_latent
from .vectors import ZERO
from .workspace import Workspace


def step(
    state: TrainState, x: Tensor, target: Tensor, settings: StepSettings, workspace: Workspace
) -> StepResult:
    """One step by dense products; see `kernels.step`."""
    p, batch = state.parameters, x.shape[0]
    half, scale = np.float32(settings.bandwidth / 2), 2 / batch
    x_in = x - p.b_dec if settings.pre_bias else x
    residual = p.b_dec - target
    if p.W_skip is not None:
        residual += skip_output(state, x)
    z, f, df = (
        workspace.tensor(name, batch, p.d_sae) for name in ("dense_z", "dense_f", "dense_df")
    )
    latents = latents_of(p)
    row_l0, row_near = torch.empty((2, batch), dtype=torch.int64)
    partial = np.empty((min(32, blocks_for(batch * p.d_sae)), p.d_sae), np.float32)
    with fast_float32():
        torch.addmm(p.b_enc, x_in, p.W_enc, out=z)
        activated = (
            z.numpy(),
            latents.theta,
            half,
            f.numpy(),
            row_l0.numpy(),
            row_near.numpy(),
            partial,
        )
        run_blocks(activate, len(partial), *activated)
        residual.addmm_(f, p.W_dec)
    fired = torch.from_numpy(partial.sum(0, dtype=np.float64)).long()
    row_loss = residual.square().sum(1)
    result, slopes = report(row_loss, row_l0, fired, settings, "cpu/dense")
    if not result.finite:
        return result
    with fast_float32():
        torch.mm(residual, p.W_dec.t(), out=df).mul_(scale)
    gradients = _gradients(x_in, residual, z, f, df, half, scale, slopes, latents.theta, partial)
    state.scratch.clear()
    now = rates(state, settings)
    b_dec = residual.sum(0).mul_(scale)
    if settings.pre_bias:
        b_dec -= p.W_enc @ torch.from_numpy(gradients[1])
    moments, last_update = latents_of(state.second_moments), state.last_update.numpy()
    owned = (latents, moments, last_update, now, no_copy())
    run_blocks(update_all, blocks_for(p.W_dec.numel()), *gradients, *owned)
    update_shared(state, x, residual, b_dec.numpy(), now)
    state.density = float(row_near.sum()) / batch
    return result


def _gradients(
    x_in: Tensor,
    residual: Tensor,
    z: Tensor,
    f: Tensor,
    df: Tensor,
    half: np.float32,
    scale: float,
    slopes: Slopes,
    theta: np.ndarray,
    partial: np.ndarray,
) -> tuple[np.ndarray, ...]:
    """Gradients by W_enc (rows), b_enc, W_dec and θ; df becomes dz."""
    slope = (slopes.row.numpy(), slopes.latent.numpy())
    run_blocks(backward, len(partial), z.numpy(), theta, half, *slope, df.numpy(), partial)
    with fast_float32():
        W_enc = df.t() @ x_in
        W_dec = (f.t() @ residual).mul_(scale)
    theta_gradient = -partial.sum(0) / (2 * half)
    return W_enc.numpy(), df.sum(0).numpy(), W_dec.numpy(), theta_gradient


@jit
def activate(block, n_blocks, z, theta, half, f, row_l0, row_near, fired):
    """f = z·1[z > θ]; counts per row of active and of z > θ − half; fired[block] of active rows.

    Written so that a NaN counts as active and reaches the loss.
    """
    first, last = share(block, n_blocks, z.shape[0])
    mine = fired[block]
    mine[:] = ZERO
    for b in range(first, last):
        active, near = 0, 0
        for i in range(z.shape[1]):
            value = z[b, i]
            inactive = value <= theta[i]
            f[b, i] = ZERO if inactive else value
            mine[i] += np.float32(not inactive)
            active += not inactive
            near += not (value <= theta[i] - half)
        row_l0[b], row_near[b] = active, near


@jit
def backward(block, n_blocks, z, theta, half, row_slope, latent_slope, df, window):
    """df becomes dz = 1[z > θ]·df; window[block] = Σ K·(θ·df + slopes) over the block's rows."""
    first, last = share(block, n_blocks, z.shape[0])
    mine = window[block]
    mine[:] = ZERO
    for b in range(first, last):
        slope = row_slope[b]
        for i in range(z.shape[1]):
            g, t = df[b, i], theta[i]
            near = abs(z[b, i] - t) < half
            mine[i] += t * g + slope + latent_slope[i] if near else ZERO
            df[b, i] = g if z[b, i] > t else ZERO


@jit
def update_all(
    block, n_blocks, g_enc, g_bias, g_dec, g_theta, latents, moments, last_update, rates, rounded
):
    """`update_latent` for every latent, from whole gradients."""
    first, last = share(block, n_blocks, g_bias.size)
    for i in range(first, last):
        update_latent(
            i,
            g_enc[i],
            g_bias[i],
            g_dec[i],
            g_theta[i],
            latents,
            moments,
            last_update,
            rates,
            rounded,
        )
