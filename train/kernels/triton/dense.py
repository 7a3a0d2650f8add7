"""The dense path of the step on CUDA: torch's products and sums, shard by shard.

Used while many latents fire. The same step as the sparse path's, latents first ([latents, batch]);
e = 2(x̂ − target)/batch, W_enc by rows [d_sae, d_in]:

    decode          z = W_enc·xᵀ + b_enc;  f = z·1[z > θ];  x̂ = Σ over shards of fᵀ·W_dec
    differentiate   df = W_dec·eᵀ;  dz = 1[z > θ]·df;  dW_dec = f·e;  dW_enc = dz·x
"""

import torch
from torch import Tensor

from .. import reference
from ..result import Slopes, StepResult, report
from ..settings import StepSettings
from ..shards import Share, product
from ..state import Parameters, TrainState


def step(
    state: TrainState, x: Tensor, target: Tensor, settings: StepSettings, share: Share
) -> StepResult:
    """One step by dense products; see `kernels.step`."""
    p, half_bandwidth = state.parameters, settings.bandwidth / 2
    batch, rows = x.shape[0], share.my_rows(x.shape[0])
    x_in = x[rows] - p.b_dec if settings.pre_bias else x[rows]
    z = x.new_empty(p.d_sae, x_in.shape[0])
    fired = torch.empty_like(state.last_update)
    counts = fired.new_zeros(2, x_in.shape[0])
    residual = _decode(state, x_in, half_bandwidth, share, z, fired, counts)
    residual += p.b_dec - target[rows]
    if p.W_skip is not None:
        residual += product(x[rows], p.W_skip)
    row_l0, row_near = share.count(counts)
    row_loss, n_near, of_all = residual.square().sum(1), row_near.sum(), residual
    if share.rows is not None:
        of_all, row_loss, row_l0 = share.rows.residuals(residual, row_loss, row_l0, batch)
        fired, n_near = share.rows.summed(fired, n_near)
    result, slopes = report(row_loss, row_l0, fired, settings, share, "triton/dense")
    if not result.finite:
        return result
    state.scratch.clear()
    state.settle(settings.beta2)
    state.n_updates += 1
    state.last_update.fill_(state.n_updates)
    slopes, scale = slopes._replace(row=slopes.row[rows]), 2 / batch
    through_encoder = share.add(
        lambda shard: _update(state, x_in, residual, z, slopes, settings, share, shard, scale)
    )
    update_shared(state, x, of_all, through_encoder, settings)
    state.entries_per_row = float(n_near) / batch
    return result


def update_shared(
    state: TrainState, x: Tensor, residual: Tensor, encoder_bias: Tensor, settings: StepSettings
) -> None:
    """Updates b_dec and W_skip, which belong to no single latent.

    Args:
        state: updated in place.
        x: float32 [batch, d_in], the rows without pre_bias subtracted.
        residual: float32 [batch, d_out], x̂ − target.
        encoder_bias: float32 [d_in], −Σ db_enc·W_enc row, the encoder's part of b_dec's gradient.
        settings: the step's.
    """
    # db_dec = Σ e + encoder_bias;  dW_skip = xᵀ·e
    scale = 2 / x.shape[0]
    b_dec = residual.sum(0) * scale
    gradients = {"b_dec": b_dec + encoder_bias if settings.pre_bias else b_dec}
    if state.parameters.W_skip is not None:
        gradients["W_skip"] = product(x.t(), residual) * scale
    groups = (dict(p.items()) for p in (state.parameters, state.second_moments))
    parameters, moments = ({name: group[name] for name in gradients} for group in groups)
    reference.move(parameters, moments, gradients, settings, state.n_updates)


def _decode(
    state: TrainState,
    x_in: Tensor,
    half_bandwidth: float,
    share: Share,
    z: Tensor,
    fired: Tensor,
    counts: Tensor,
) -> Tensor:
    """x̂ without b_dec over all latents, [batch, d_out]; fills z and fired, adds to counts: each
    row's latents with z > θ, and with z > θ − half_bandwidth."""
    p = state.parameters

    def part(shard: int) -> Tensor:
        mine = share.latents(shard)
        product(p.W_enc.t()[mine], x_in.t(), out=z[mine]).add_(p.b_enc[mine, None])
        limit = p.theta[mine, None]
        # Not `>`: a NaN must count as active, so that it reaches the loss.
        active = ~(z[mine] <= limit)
        fired[mine] = active.sum(1)
        counts[0] += active.sum(0)
        counts[1] += (~(z[mine] <= limit - half_bandwidth)).sum(0)
        return product(torch.where(active, z[mine], 0).t(), p.W_dec[mine])

    return share.add(part)


def _update(
    state: TrainState,
    x_in: Tensor,
    residual: Tensor,
    z: Tensor,
    slopes: Slopes,
    settings: StepSettings,
    share: Share,
    shard: int,
    scale: float,
) -> Tensor:
    """Gradients and update of a shard's latents; returns its part of db_dec, [d_in]."""
    p, half_bandwidth, mine = state.parameters, settings.bandwidth / 2, share.latents(shard)
    theta = p.theta[mine, None]
    df = product(p.W_dec[mine], residual.t()).mul_(scale)
    near, active = (z[mine] - theta).abs() < half_bandwidth, z[mine] > theta
    # dθ = −Σ K((z − θ)/ε)·(θ·df + penalty's slopes)/ε
    window = near * (theta * df + slopes.row + slopes.latent[mine, None])
    dz, f = torch.where(active, df, 0), torch.where(active, z[mine], 0)
    gradients = {
        "W_enc": product(dz, x_in).t(),
        "b_enc": dz.sum(1),
        "W_dec": product(f, residual).mul_(scale),
        "theta": -window.sum(1) / settings.bandwidth,
    }
    if share.rows is not None:
        sums = share.rows.summed(*(tensor.t() for tensor in gradients.values()))
        gradients = {name: total.t() for name, total in zip(gradients, sums, strict=True)}
    # −Σ db_enc·W_enc row, by the rows before their update
    through_encoder = -product(gradients["b_enc"][None], p.W_enc.t()[mine])[0]
    parameters, moments = _latents(p, mine), _latents(state.second_moments, mine)
    reference.move(parameters, moments, gradients, settings, state.n_updates)
    return through_encoder


def _latents(p: Parameters, mine: slice) -> dict[str, Tensor]:
    """The parameters (or moments) of some latents, sharing memory."""
    own = {"b_enc": p.b_enc[mine], "W_dec": p.W_dec[mine], "theta": p.theta[mine]}
    return own | {"W_enc": p.W_enc[:, mine]}
