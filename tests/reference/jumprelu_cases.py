"""Training states and batches for the kernel tests, and the way to the float64 reference and back.

`grid_case` draws small multiples of 1/8, so that z is exact in float32 and in float64 alike: ties
at θ and at the edges of its window are real ties, and no entry changes sides by rounding.
"""

import math

import numpy as np
import torch
from torch import Tensor

from scopeworks.tests.reference import jumprelu_step
from scopeworks.train.kernels import (
    Parameters,
    Share,
    StepResult,
    StepSettings,
    TrainState,
    initial_parameters,
    step,
)

# Relative to a tensor's norm. Gradients: float32 sums of up to some hundred terms. Trajectories:
# rounding, and Adam's normalisation of elements whose gradient is itself rounding.
GRADIENT_TOLERANCE = 1e-5
TRAJECTORY_TOLERANCE = 1e-4


def as_numpy(parameters: Parameters) -> dict[str, np.ndarray]:
    """Parameters (or moments) as a dict of float64 copies."""
    return {name: as_float64(tensor).copy() for name, tensor in parameters.items()}


def as_float64(tensor: Tensor) -> np.ndarray:
    """A tensor of any device."""
    return tensor.double().cpu().numpy()


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
        latent_weight=None if weight is None else as_float64(weight),
        theta_floor=settings.theta_floor,
    )


def grid_case(
    batch: int,
    d_in: int,
    d_sae: int,
    seed: int,
    theta: float = 1.0,
    d_out: int | None = None,
    device: str = "cpu",
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
    return _on(device, parameters, grid(batch, d_in))


def gaussian_case(
    batch: int,
    d: int,
    d_sae: int,
    seed: int = 0,
    theta: float = 0.05,
    transcoder: bool = False,
    device: str = "cpu",
) -> tuple[TrainState, Tensor]:
    """A freshly initialised SAE and rows with E‖x‖² = 1 around a mean, as a trainer sees them."""
    generator = torch.Generator().manual_seed(seed + 1)
    x = torch.randn(batch, d, generator=generator) / d**0.5
    x += 0.3 * torch.randn(d, generator=generator) / d**0.5
    parameters = initial_parameters(d, d, d_sae, theta, seed, transcoder)
    return _on(device, parameters, x)


def whole_number_case(
    batch: int, d: int, d_sae: int, device: str = "cpu"
) -> tuple[TrainState, Tensor]:
    """A state and rows of which every product is exact in bfloat16, θ is hit now and then."""
    generator = torch.Generator().manual_seed(0)
    p = initial_parameters(d, d, d_sae, 1.0, 0)
    p.W_enc.copy_(torch.randint(-1, 2, (d, d_sae), generator=generator))
    p.b_dec.copy_(torch.randint(-1, 2, (d,), generator=generator))
    p.b_enc.copy_(torch.randint(-8, 9, (d_sae,), generator=generator) / 8)
    return _on(device, p, torch.randint(-1, 2, (batch, d), generator=generator).float())


def _on(device: str, parameters: Parameters, x: Tensor) -> tuple[TrainState, Tensor]:
    """A fresh state and the rows on a device, laid out as before."""
    moved = Parameters(**{name: tensor.to(device) for name, tensor in parameters.items()})
    return TrainState.fresh(moved), x.to(device)


def copy_of(state: TrainState) -> TrainState:
    """The same state in memory of its own."""
    return TrainState.from_tensors({k: v.clone() for k, v in state.tensors().items()})


def strided_rows(x: Tensor) -> dict[str, Tensor]:
    """Rows [batch, d] as others may hand them over, none of them one block of memory."""
    wide = torch.stack([x, -x], 2).flatten(1)
    return {
        "column-major": x.t().contiguous().t(),
        "every second row": torch.stack([x, -x], 1).flatten(0, 1)[::2],
        "every second column": wide[:, ::2],
        "part of wider rows": torch.cat([x, -x], 1)[:, : x.shape[1]],
        "one row repeated": x[:1].expand_as(x),
        "one column repeated": x[:, :1].expand_as(x),
    }


def check_strided_rows(
    path: str, state: TrainState, x: Tensor, target: Tensor, settings: StepSettings
) -> None:
    """A step on rows of any strides against the step on their contiguous copies, bit for bit."""
    for name, rows, targets in (
        *((f"x {name}", rows, target) for name, rows in strided_rows(x).items()),
        *((f"target {name}", x, rows) for name, rows in strided_rows(target).items()),
    ):
        assert not (rows.is_contiguous() and targets.is_contiguous())
        finals = []
        for a, b in ((rows, targets), (rows.contiguous(), targets.contiguous())):
            copy = copy_of(state)
            finals.append((step(copy, a, b, settings, path).loss, copy.tensors()))
        assert finals[0][0] == finals[1][0], name
        for key, tensor in finals[0][1].items():
            assert torch.equal(tensor, finals[1][1][key]), (name, key)


def check_bad_row(path: str, state: TrainState, x: Tensor, target: Tensor, bad: float) -> None:
    """A step that has a bad number in x, then in the target: it says so, the state stays."""
    settings = StepSettings(lr=1e-3, sparsity=1e-3, pre_bias=False)
    step(state, x, target, settings, path)
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    for where in range(2):
        rows, targets = pair = x.clone(), target.clone()
        pair[where][-1, -1] = bad
        result = step(state, rows, targets, settings, path)
        assert not result.finite
        assert result.fired.shape == state.last_update.shape
        for name, tensor in state.tensors().items():
            assert torch.equal(tensor, before[name]), name


def relative_error(got: Tensor | np.ndarray, wanted: np.ndarray) -> float:
    """‖got − wanted‖ / ‖wanted‖, or the absolute error where wanted is zero."""
    got = as_float64(got) if isinstance(got, Tensor) else got
    difference = np.linalg.norm(got - wanted)
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


def float64_step(
    state: TrainState, x: Tensor, target: Tensor, settings: StepSettings
) -> jumprelu_step.Report:
    """The float64 step's report on the same numbers."""
    s = reference_settings(settings)
    p = as_numpy(state.parameters)
    return jumprelu_step.loss_and_gradients(p, as_float64(x), as_float64(target), s)


def project(gradients: dict[str, np.ndarray], W_dec: np.ndarray) -> np.ndarray:
    """W_dec's gradient without its component along each row."""
    g = gradients["W_dec"]
    return g - (g * W_dec).sum(1, keepdims=True) * W_dec


def check_step(
    path: str,
    state: TrainState,
    x: Tensor,
    target: Tensor,
    settings: StepSettings,
    share: Share | None = None,
) -> None:
    """One step's report, gradients and updated state against float64."""
    wanted = float64_step(state, x, target, settings)
    before = state.parameters.clone()
    p = as_numpy(before)
    moments = {name: np.zeros_like(value) for name, value in p.items()}
    result = step(state, x, target, settings, path, share)
    assert result.path == path
    assert result.finite
    for name, tolerance in (("loss", 1e-5), ("mse", 1e-5), ("penalty", 1e-6), ("l0", 1e-6)):
        pair = getattr(result, name), getattr(wanted, name)
        assert math.isclose(*pair, rel_tol=tolerance, abs_tol=1e-12), (name, *pair)
    assert result.fired.tolist() == wanted.fired.tolist()
    state.settle(settings.beta2)
    got = recovered_gradients(before, state, settings.beta2)
    factor = p["theta"] if settings.theta_form == "log" else 1.0
    for name, gradient in wanted.gradients.items():
        exact = gradient * factor if name == "theta" else gradient
        exact = np.abs(project(wanted.gradients, p["W_dec"])) if name == "W_dec" else exact
        assert relative_error(got[name], exact) < GRADIENT_TOLERANCE, name
    jumprelu_step.update(p, moments, wanted.gradients, 1, reference_settings(settings))
    for name, tensor in state.parameters.items():
        # An element whose true gradient is 0 may move by lr on rounding alone; none is left out.
        assert relative_error(tensor, p[name]) < TRAJECTORY_TOLERANCE, name


def follow_float64(
    path: str,
    state: TrainState,
    batches: list[Tensor],
    settings: StepSettings,
    n_steps: int,
    share: Share | None = None,
) -> list[StepResult]:
    """Steps over the batches again and again beside the float64 step; compares losses and state.

    last_update is left as the last step made it; moments are compared settled.
    """
    exact, s = as_numpy(state.parameters), reference_settings(settings)
    moments = {name: np.zeros_like(value) for name, value in exact.items()}
    results = []
    for k in range(n_steps):
        rows = batches[k % len(batches)]
        results.append(step(state, rows, rows, settings, path, share))
        x64 = as_float64(rows)
        report = jumprelu_step.loss_and_gradients(exact, x64, x64, s)
        jumprelu_step.update(exact, moments, report.gradients, k + 1, s)
        assert abs(results[-1].loss - report.loss) < TRAJECTORY_TOLERANCE * report.loss
    settled = copy_of(state)
    settled.settle(settings.beta2)
    for name, tensor in settled.parameters.items():
        assert relative_error(tensor, exact[name]) < TRAJECTORY_TOLERANCE, name
    for name, tensor in settled.second_moments.items():
        assert relative_error(tensor, moments[name]) < 10 * TRAJECTORY_TOLERANCE, name
    return results
