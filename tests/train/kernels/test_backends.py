"""Every path of every backend against the float64 step: gradients, state, edge cases."""

from typing import Any

import numpy as np
import pytest
import torch

from scopeworks.tests.reference import jumprelu_step
from scopeworks.tests.reference.jumprelu_cases import (
    as_numpy,
    backend_paths,
    gaussian_case,
    grid_case,
    recovered_gradients,
    reference_settings,
    relative_error,
)
from scopeworks.train.kernels import Parameters, StepSettings, TrainState, step

# Relative to a tensor's norm. Gradients: float32 sums of up to some hundred terms. Trajectories:
# rounding, and Adam's normalisation of elements whose gradient is itself rounding.
GRADIENT_TOLERANCE = 1e-5
TRAJECTORY_TOLERANCE = 1e-4

WIDE: dict[str, Any] = {"lr": 1e-3, "sparsity": 0.3, "bandwidth": 0.5}
PATHS = backend_paths()


def float64_step(state: TrainState, x, target, settings: StepSettings):
    """Report and settings of the float64 step on the same numbers."""
    s = reference_settings(settings)
    p = as_numpy(state.parameters)
    return jumprelu_step.loss_and_gradients(p, x.double().numpy(), target.double().numpy(), s)


def project(gradients: dict[str, np.ndarray], W_dec: np.ndarray) -> np.ndarray:
    """W_dec's gradient without its component along each row."""
    g = gradients["W_dec"]
    return g - (g * W_dec).sum(1, keepdims=True) * W_dec


def check_step(path: str, state: TrainState, x, target, settings: StepSettings) -> None:
    """One step's report, gradients and updated state against float64."""
    wanted = float64_step(state, x, target, settings)
    before = state.parameters.clone()
    p = as_numpy(before)
    moments = {name: np.zeros_like(value) for name, value in p.items()}
    result = step(state, x, target, settings, path)
    assert result.path == path
    assert result.finite
    assert (result.loss, result.mse) == pytest.approx((wanted.loss, wanted.mse), rel=1e-5)
    assert (result.penalty, result.l0) == pytest.approx((wanted.penalty, wanted.l0), rel=1e-6)
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


CASES: dict[str, dict[str, Any]] = {
    "linear": {},
    "quadratic": {"penalty": "quadratic", "target_l0": 3.0, "quadratic_coefficient": 0.7},
    "weighted": {"latent_weight": torch.arange(40) / 7.0},
    "log theta": {"theta_form": "log"},
}
SHAPES = {"square": (24, 16, 40), "one row": (1, 7, 40), "odd": (13, 5, 40), "tall": (97, 3, 40)}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shape", SHAPES)
def test_step_matches_float64_with_ties(path, case, shape):
    batch, d, d_sae = SHAPES[shape]
    state, x = grid_case(batch, d, d_sae, seed=1)
    check_step(path, state, x, x, StepSettings(**WIDE, **CASES[case]))


@pytest.mark.parametrize("path", PATHS)
def test_skip_transcoder_matches_float64(path):
    state, x = grid_case(37, 5, 40, seed=2, d_out=6)
    target = torch.roll(x, 1, 1)[:, :1] * torch.arange(6)
    check_step(path, state, x, target, StepSettings(**WIDE, pre_bias=False))


@pytest.mark.parametrize("path", PATHS)
def test_inputs_of_any_strides(path):
    state, x = grid_case(20, 6, 40, seed=3)
    columns = x.t().contiguous().t()
    strided = torch.stack([x, -x], 1)[:, 0]
    copies = [TrainState.fresh(state.parameters.clone()) for _ in range(3)]
    settings = StepSettings(**WIDE)
    for copy, rows in zip(copies, (x, columns, strided), strict=True):
        step(copy, rows, rows, settings, path)
    for copy in copies[1:]:
        for name, tensor in copy.parameters.items():
            wanted = getattr(copies[0].parameters, name)
            torch.testing.assert_close(tensor, wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("path", PATHS)
def test_batch_without_active_latents_moves_only_the_decoder_bias(path):
    state, x = grid_case(17, 5, 40, seed=4, theta=1e6)
    before = state.parameters.clone()
    result = step(state, x, x, StepSettings(**WIDE), path)
    assert (result.l0, result.fired.sum().item()) == (0, 0)
    for name in ("W_enc", "b_enc", "theta"):
        assert torch.equal(getattr(state.parameters, name), getattr(before, name)), name
    torch.testing.assert_close(state.parameters.W_dec, before.W_dec, rtol=1e-6, atol=1e-7)
    assert not torch.equal(state.parameters.b_dec, before.b_dec)


@pytest.mark.parametrize("path", PATHS)
def test_batch_with_every_latent_active_matches_float64(path):
    state, x = grid_case(19, 5, 40, seed=5, theta=0.5)
    state.parameters.b_enc.fill_(64.0)
    wanted = float64_step(state, x, x, StepSettings(**WIDE))
    assert wanted.l0 == 40
    check_step(path, state, x, x, StepSettings(**WIDE))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_rows_leave_the_state_untouched(path, bad):
    state, x = gaussian_case(33, 6, 40)
    step(state, x, x, StepSettings(lr=1e-3, sparsity=1e-3), path)
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    x[3, 2] = bad
    assert not step(state, x, x, StepSettings(lr=1e-3, sparsity=1e-3), path).finite
    for name, tensor in state.tensors().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", ["W_enc", "b_enc", "W_dec", "b_dec"])
def test_non_finite_parameters_are_noticed(path, name):
    state, x = gaussian_case(33, 6, 40)
    getattr(state.parameters, name)[:] = float("nan")
    assert not step(state, x, x, StepSettings(lr=1e-3, sparsity=1e-3), path).finite


@pytest.mark.parametrize("path", PATHS)
def test_state_follows_float64_for_300_steps(path):
    state, x = gaussian_case(128, 12, 48, theta=0.2)
    # Strict float32 against float64: an entry within rounding of θ would change sides, not drift.
    settings = StepSettings(lr=5e-4, sparsity=2e-3, bandwidth=0.02)
    exact, s = as_numpy(state.parameters), reference_settings(settings)
    moments = {name: np.zeros_like(value) for name, value in exact.items()}
    for k in range(300):
        rows = x[k % 8 * 16 : k % 8 * 16 + 16]
        result = step(state, rows, rows, settings, path)
        x64 = rows.double().numpy()
        report = jumprelu_step.loss_and_gradients(exact, x64, x64, s)
        jumprelu_step.update(exact, moments, report.gradients, k + 1, s)
        assert result.loss == pytest.approx(report.loss, rel=TRAJECTORY_TOLERANCE)
    state.settle(settings.beta2)
    for name, tensor in state.parameters.items():
        assert relative_error(tensor, exact[name]) < TRAJECTORY_TOLERANCE, name
    for name, tensor in state.second_moments.items():
        assert relative_error(tensor, moments[name]) < 10 * TRAJECTORY_TOLERANCE, name


def paired_latents() -> tuple[TrainState, torch.Tensor]:
    """Two latents, each touched by one of two rows only."""
    parameters = Parameters(
        W_enc=torch.eye(2).t(),
        b_enc=torch.zeros(2),
        W_dec=torch.nn.functional.normalize(torch.tensor([[1.0, 0.3], [0.2, 1.0]]), dim=1),
        b_dec=torch.zeros(2),
        theta=torch.full((2,), 0.25),
    )
    return TrainState.fresh(parameters), torch.tensor([[1.0, -3.0], [-3.0, 1.0]])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("missed", [1, 10, 1000])
def test_latent_untouched_for_many_steps_owes_its_decay(path, missed):
    state, x = paired_latents()
    settings = StepSettings(lr=1e-4, sparsity=0.1, bandwidth=0.1)
    exact, s = as_numpy(state.parameters), reference_settings(settings)
    moments = {name: np.zeros_like(value) for name, value in exact.items()}
    order = [0] + [1] * missed + [0]
    for k, row in enumerate(order):
        rows = x[row : row + 1]
        result = step(state, rows, rows, settings, path)
        assert result.fired.tolist() == [1 - row, row]
        x64 = rows.double().numpy()
        report = jumprelu_step.loss_and_gradients(exact, x64, x64, s)
        jumprelu_step.update(exact, moments, report.gradients, k + 1, s)
    assert state.last_update[0] == len(order)
    state.settle(settings.beta2)
    for name, tensor in state.second_moments.items():
        assert relative_error(tensor, moments[name]) < TRAJECTORY_TOLERANCE, name
    for name, tensor in state.parameters.items():
        assert relative_error(tensor, exact[name]) < GRADIENT_TOLERANCE, name


@pytest.mark.parametrize("path", [*PATHS, "auto"])
def test_same_steps_give_the_same_bits_also_through_a_checkpoint(path):
    settings = StepSettings(lr=1e-3, sparsity=2e-3, bandwidth=0.01)
    finals = []
    for resumed in (False, False, True):
        state, x = gaussian_case(256, 24, 200, theta=0.1)
        for k in range(8):
            if resumed and k == 4:
                named = {name: tensor.clone() for name, tensor in state.tensors().items()}
                state = TrainState.from_tensors(named)
            step(state, x[k * 32 : k * 32 + 32], x[k * 32 : k * 32 + 32], settings, path)
        finals.append(state.tensors())
    for other in finals[1:]:
        for name, tensor in finals[0].items():
            assert torch.equal(tensor, other[name]), name
