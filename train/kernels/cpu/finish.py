"""What the CPU's sparse and dense paths share: the update's scalars, the skip, and the update of
what no latent owns.
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
    """x @ W_skip, or an empty tensor of two dimensions."""
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
    """What the update of latents moves."""
    parameters, moments = latents_of(state.parameters), latents_of(state.second_moments)
    return Owned(parameters, moments, state.last_update.numpy(), rates, rounded)


def update_shared(
    state: TrainState, x: Tensor, residual: Tensor, b_dec: np.ndarray, rates: Rates
) -> None:
    """Updates b_dec, given its gradient, and W_skip (dW_skip = xᵀ·2·residual/batch); counts."""
    p, v = state.parameters, state.second_moments
    decay = np.float32(rates.beta2)
    adam(p.b_dec.numpy(), v.b_dec.numpy(), b_dec, decay, rates.adam)
    if p.W_skip is not None and v.W_skip is not None:
        with fast_float32():
            gradient = product(x.t(), residual).mul_(2 / x.shape[0])
        row, moment, slope = (t.reshape(-1).numpy() for t in (p.W_skip, v.W_skip, gradient))
        adam(row, moment, slope, decay, rates.adam)
    state.n_updates = rates.now
