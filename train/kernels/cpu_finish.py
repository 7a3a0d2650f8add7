"""What the CPU's sparse and dense paths share: their inputs, the update's scalars, and the update
of what no latent owns.
"""

import numpy as np
import torch
from torch import Tensor

from .cpu_encode import fast_float32
from .cpu_update import Latents, Rates
from .cpu_vectors import adam
from .cpu_workspace import Workspace
from .state import Parameters, StepSettings, TrainState


def encoder_input(state: TrainState, x: Tensor, pre_bias: bool, workspace: Workspace) -> Tensor:
    """x − b_dec (or x), contiguous."""
    if not pre_bias:
        return x.contiguous()
    out = workspace.tensor("encoder_input", *x.shape)
    return torch.sub(x, state.parameters.b_dec, out=out)


def residual_without_latents(
    state: TrainState, x: Tensor, target: Tensor, workspace: Workspace
) -> Tensor:
    """b_dec (+ x @ W_skip) − target, to which the latents' parts are added."""
    p = state.parameters
    out = torch.sub(p.b_dec, target, out=workspace.tensor("residual", *target.shape))
    if p.W_skip is not None:
        with fast_float32():
            out.addmm_(x, p.W_skip)
    return out


def rates(state: TrainState, settings: StepSettings) -> Rates:
    """The next update's scalars."""
    now = state.n_updates + 1
    correction = 1 / (1 - settings.beta2**now)
    scalars = (settings.lr, 1 - settings.beta2, correction, settings.eps)
    return Rates(
        (
            np.float32(scalars[0]),
            np.float32(scalars[1]),
            np.float32(scalars[2]),
            np.float32(scalars[3]),
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


def update_shared(
    state: TrainState,
    x: Tensor,
    residual: Tensor,
    scale: float,
    encoder_bias: np.ndarray | None,
    rates: Rates,
) -> None:
    """Updates b_dec (given the encoder's part of its gradient) and W_skip; counts the update."""
    p, v = state.parameters, state.second_moments
    decay = np.float32(rates.beta2)
    gradient = residual.sum(0).mul_(scale).numpy()
    if encoder_bias is not None:
        gradient += encoder_bias
    adam(p.b_dec.numpy(), v.b_dec.numpy(), gradient, decay, rates.adam)
    if p.W_skip is not None and v.W_skip is not None:
        with fast_float32():
            skip = (x.t() @ residual).mul_(scale)
        row, moment, gradient = (t.reshape(-1).numpy() for t in (p.W_skip, v.W_skip, skip))
        adam(row, moment, gradient, decay, rates.adam)
    state.n_updates = rates.now
