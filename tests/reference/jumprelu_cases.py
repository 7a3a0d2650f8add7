"""Training states and batches for the kernel tests, and the way to the float64 reference and back.

`grid_case` draws small multiples of 1/8, so that z is exact in float32 and in float64 alike: ties
at θ and at the edges of its window are real ties, and no entry changes sides by rounding.
"""

import importlib

import numpy as np
import torch
from torch import Tensor

from scopeworks.tests.reference import jumprelu_step
from scopeworks.train.kernels import (
    Parameters,
    StepSettings,
    TrainState,
    available_backends,
    initial_parameters,
)


def as_numpy(parameters: Parameters) -> dict[str, np.ndarray]:
    """Parameters (or moments) as a dict of float64 copies."""
    return {name: tensor.double().numpy().copy() for name, tensor in parameters.items()}


def reference_settings(settings: StepSettings) -> jumprelu_step.Settings:
    """The reference's settings for the same step."""
    weight = settings.latent_weight
    return jumprelu_step.Settings(
        lr=settings.lr,
        sparsity=settings.sparsity,
        bandwidth=settings.bandwidth,
        beta2=settings.beta2,
        eps=settings.eps,
        log_theta=settings.theta_form == "log",
        pre_bias=settings.pre_bias,
        target_l0=settings.target_l0 if settings.penalty == "quadratic" else None,
        coefficient=settings.coefficient,
        latent_weight=None if weight is None else weight.double().numpy(),
        theta_floor=settings.theta_floor,
    )


def grid_case(
    batch: int, d_in: int, d_sae: int, seed: int, theta: float = 1.0, d_out: int | None = None
) -> tuple[TrainState, Tensor]:
    """A state and rows on a grid of 1/8; z is exact in float32, θ is hit exactly now and then.

    A d_out makes it a skip transcoder.
    """
    generator = torch.Generator().manual_seed(seed)

    def grid(*shape: int) -> Tensor:
        return torch.randint(-8, 9, shape, generator=generator).float() / 8

    width = d_out or d_in
    parameters = Parameters(
        W_enc=grid(d_sae, d_in).t(),
        b_enc=grid(d_sae),
        W_dec=torch.nn.functional.normalize(grid(d_sae, width) + 1 / 16, dim=1),
        b_dec=grid(width),
        theta=torch.full((d_sae,), theta) + grid(d_sae).abs() / 4,
        W_skip=grid(d_in, width) if d_out else None,
    )
    return TrainState.fresh(parameters), grid(batch, d_in)


def gaussian_case(
    batch: int, d: int, d_sae: int, seed: int = 0, theta: float = 0.05, transcoder: bool = False
) -> tuple[TrainState, Tensor]:
    """A freshly initialised SAE and rows with E‖x‖² = 1 around a mean, as a trainer sees them."""
    generator = torch.Generator().manual_seed(seed + 1)
    x = torch.randn(batch, d, generator=generator) / d**0.5
    x += 0.3 * torch.randn(d, generator=generator) / d**0.5
    parameters = initial_parameters(d, d, d_sae, theta, seed, transcoder)
    return TrainState.fresh(parameters), x


def relative_error(got: Tensor | np.ndarray, wanted: np.ndarray) -> float:
    """‖got − wanted‖ / ‖wanted‖, or the absolute error where wanted is zero."""
    difference = np.linalg.norm(np.asarray(got, dtype=np.float64) - wanted)
    return float(difference / (np.linalg.norm(wanted) or 1.0))


def recovered_gradients(before: Parameters, state: TrainState, beta2: float) -> dict[str, Tensor]:
    """The gradients of a first step, from what it left: |g| = √(v/(1 − β2)), p moved against g.

    W_dec's is the projected one; its sign is that of the move before the row was renormalised, so
    W_dec's gradients come without a sign.
    """
    gradients = {}
    moments = dict(state.second_moments.items())
    for name, old in before.items():
        size = (moments[name].double() / (1 - beta2)).sqrt()
        moved = old - getattr(state.parameters, name)
        gradients[name] = size if name == "W_dec" else size * moved.sign()
    return gradients


def backend_paths(device: str = "cpu") -> list[str]:
    """Every path of every backend that runs here, as `step` takes them."""
    return [
        f"{backend}/{path}"
        for backend in available_backends(device)
        for path in importlib.import_module(f"scopeworks.train.kernels.{backend}").PATHS
    ]
