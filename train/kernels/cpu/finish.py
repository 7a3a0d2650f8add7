"""What the CPU's sparse and dense paths share: the update's scalars, the skip connection's output,
and the update of b_dec and W_skip, which belong to no single latent.
"""

import numpy as np
import torch
from torch import Tensor

from ..settings import StepSettings
from ..shards import product
from ..state import Parameters, TrainState
from .encode import fast_float32
from .update import Latents, Owned, Rates, Rounded
from .vectors import adam


def skip_output(state: TrainState, x: Tensor) -> Tensor:
    """x @ W_skip, float32 [batch, d_out]; [0, 0] without a skip."""
    W_skip = state.parameters.W_skip
    if W_skip is None:
        return torch.empty(0, 0)
    with fast_float32():
        return product(x, W_skip)


def rates(state: TrainState, settings: StepSettings) -> Rates:
    """The next update's scalars."""
    now = state.n_updates + 1
    correction = 1 / (1 - settings.beta2**now)
    return Rates(
        (
            np.float32(settings.lr),
            np.float32(1 - settings.beta2),
            np.float32(correction),
            np.float32(settings.eps),
        ),
        settings.beta2,
        now,
        settings.theta_form == "log",
        np.float32(settings.theta_floor),
    )


def latents_of(parameters: Parameters) -> Latents:
    """The arrays that belong to single latents, sharing memory."""
    p = parameters
    return Latents(p.W_enc.t().numpy(), p.b_enc.numpy(), p.W_dec.numpy(), p.theta.numpy())


def owned(state: TrainState, rates: Rates, rounded: Rounded) -> Owned:
    """What the update of latents changes, sharing memory with the state."""
    parameters, moments = latents_of(state.parameters), latents_of(state.second_moments)
    return Owned(parameters, moments, state.last_update.numpy(), rates, rounded)


def update_shared(
    state: TrainState, x: Tensor, residual: Tensor, b_dec: np.ndarray, rates: Rates
) -> None:
    """Updates b_dec and W_skip, and counts the update in `state`.

    Args:
        state: updated in place; its latents have been updated.
        x: float32 [batch, d_in], the rows themselves, without pre_bias.
        residual: float32 [batch, d_out], x̂ − target.
        b_dec: float32 [d_out], the gradient by b_dec.
        rates: the update's scalars.
    """
    p, v = state.parameters, state.second_moments
    decay = np.float32(rates.beta2)
    adam(p.b_dec.numpy(), v.b_dec.numpy(), b_dec, decay, rates.adam)
    if p.W_skip is not None and v.W_skip is not None:
        with fast_float32():
            # dW_skip = xᵀ·2(x̂ − target)/batch
            gradient = product(x.t(), residual).mul_(2 / x.shape[0])
        row, moment, slope = (t.reshape(-1).numpy() for t in (p.W_skip, v.W_skip, gradient))
        adam(row, moment, slope, decay, rates.adam)
    state.n_updates = rates.now
