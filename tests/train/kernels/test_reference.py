"""The reference step against hand-derived float64 formulas and against the expected loss."""

from typing import Any

import numpy as np
import pytest
import torch

from scopeworks.tests.reference import jumprelu_step
from scopeworks.tests.reference.jumprelu_cases import (
    as_numpy,
    gaussian_case,
    grid_case,
    reference_settings,
    relative_error,
)
from scopeworks.train.kernels import Parameters, StepSettings, TrainState, step
from scopeworks.train.kernels.reference import losses_and_gradients

# float32 sums over up to a few hundred terms of mixed sign, relative to the tensor's norm.
GRADIENT_TOLERANCE = 1e-5
# θ ± ε/2 lies on the grid: the window's open ends are hit exactly.
WIDE: dict[str, Any] = {"lr": 1e-3, "sparsity": 0.3, "bandwidth": 0.5}

PENALTIES: dict[str, dict[str, Any]] = {
    "linear": {},
    "quadratic": {"penalty": "quadratic", "target_l0": 3.0, "quadratic_coefficient": 0.7},
    "weighted": {"latent_weight": torch.arange(40) / 7.0},
}
SHAPES = {"square": (24, 16, 40), "one row": (1, 7, 40), "odd": (13, 5, 40), "tall": (97, 3, 40)}


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["sae", "skip transcoder"])
def test_gradients_match_float64_formulas(penalty, shape, kind):
    batch, d_in, d_sae = SHAPES[shape]
    transcoder = kind != "sae"
    state, x = grid_case(batch, d_in, d_sae, seed=1, d_out=6 if transcoder else None)
    target = torch.roll(x, 1, 1)[:, :1].expand(-1, 6) * 2 if transcoder else x
    settings = StepSettings(**WIDE, **PENALTIES[penalty], pre_bias=not transcoder)
    result, gradients, _ = losses_and_gradients(state.parameters, x, target, settings)
    wanted = jumprelu_step.loss_and_gradients(
        as_numpy(state.parameters),
        x.double().numpy(),
        target.double().numpy(),
        reference_settings(settings),
    )
    assert (result.loss, result.mse) == pytest.approx((wanted.loss, wanted.mse), rel=1e-6)
    assert (result.penalty, result.l0) == pytest.approx((wanted.penalty, wanted.l0), rel=1e-6)
    assert result.fired.tolist() == wanted.fired.tolist()
    assert gradients.items()
    for name, gradient in gradients.items():
        error = relative_error(gradient, wanted.gradients[name])
        assert error < GRADIENT_TOLERANCE, name


def test_ties_are_inactive_and_the_window_is_open():
    # z = x·w with w = 1: below, at the lower edge, at θ, inside, at the upper edge, above.
    z = torch.tensor([0.5, 0.75, 1.0, 1.125, 1.25, 1.5])[:, None]
    parameters = Parameters(
        W_enc=torch.ones(1, 1),
        b_enc=torch.zeros(1),
        W_dec=torch.ones(1, 1),
        b_dec=torch.zeros(1),
        theta=torch.ones(1),
    )
    settings = StepSettings(lr=0.0, sparsity=0.6, bandwidth=0.5)
    result, gradients, entries_per_row = losses_and_gradients(parameters, z, z, settings)
    assert result.fired.tolist() == [3]
    assert entries_per_row * 6 == 4
    # Only z = 1 (inactive, residual −1, g = −2/6) and z = 1.125 (active, residual 0) lie in it.
    wanted = -(1 / 0.5) * (1.0 * (-2 / 6)) - (1 / 0.5) * (2 * 0.6 / 6)
    assert gradients.theta.item() == pytest.approx(wanted)


@pytest.mark.parametrize("theta", [0.4, 0.9])
@pytest.mark.parametrize("sparsity", [0.0, 0.5])
def test_theta_pseudo_gradient_estimates_the_derivative_of_the_expected_loss(theta, sparsity):
    n, x_std = 400_000, 0.8
    w = torch.tensor([0.9, 0.5, -0.2], dtype=torch.float64)
    d = torch.tensor([0.8, 0.6, 0.0], dtype=torch.float64)
    # Stratified along w (so the count in the window has no sampling noise), random across it.
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    along = torch.special.ndtri(u)[:, None] * (w / w.norm())
    across = torch.randn(n, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    across -= (across @ w)[:, None] * w / (w @ w)
    x = (x_std * (along + across)).float()
    parameters = Parameters(
        W_enc=w.float()[:, None],
        b_enc=torch.zeros(1),
        W_dec=d.float()[None],
        b_dec=torch.zeros(3),
        theta=torch.tensor([theta]),
    )
    settings = StepSettings(lr=0.0, sparsity=sparsity, bandwidth=0.02)
    _, gradients, _ = losses_and_gradients(parameters, x, x, settings)
    h = 1e-3
    up, down = (
        jumprelu_step.expected_loss(w.numpy(), d.numpy(), theta + side, sparsity, x_std)
        for side in (h, -h)
    )
    assert gradients.theta.item() == pytest.approx((up - down) / (2 * h), abs=0.01)


@pytest.mark.parametrize("theta_form", ["raw", "log"])
@pytest.mark.parametrize("transcoder", [False, True])
def test_state_follows_float64_over_many_steps(theta_form, transcoder):
    state, x = gaussian_case(64, 12, 48, transcoder=transcoder)
    target = x.flip(1) if transcoder else x
    settings = StepSettings(
        lr=1e-3, sparsity=1e-3, bandwidth=0.02, theta_form=theta_form, pre_bias=not transcoder
    )
    exact = as_numpy(state.parameters)
    moments = {name: np.zeros_like(value) for name, value in exact.items()}
    s = reference_settings(settings)
    for k in range(60):
        rows = slice(k % 4 * 16, k % 4 * 16 + 16)
        result = step(state, x[rows], target[rows], settings, "reference")
        report = jumprelu_step.loss_and_gradients(
            exact, x[rows].double().numpy(), target[rows].double().numpy(), s
        )
        jumprelu_step.update(exact, moments, report.gradients, k + 1, s)
        assert result.loss == pytest.approx(report.loss, rel=1e-4)
    for name, tensor in state.parameters.items():
        assert relative_error(tensor, exact[name]) < 1e-4, name
    for name, tensor in state.second_moments.items():
        assert relative_error(tensor, moments[name]) < 1e-3, name


def test_theta_stays_at_its_floor_and_rows_stay_unit():
    state, x = gaussian_case(32, 8, 24, theta=1e-3)
    settings = StepSettings(lr=0.5, sparsity=0.0, bandwidth=0.5, theta_floor=1e-4)
    for _ in range(5):
        step(state, x, x, settings, "reference")
    assert state.parameters.theta.min().item() == pytest.approx(1e-4)
    torch.testing.assert_close(state.parameters.W_dec.norm(dim=1), torch.ones(24))


def test_non_finite_loss_leaves_the_state_untouched():
    state, x = gaussian_case(8, 6, 12)
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    x[3, 2] = float("nan")
    result = step(state, x, x, StepSettings(lr=1e-3, sparsity=1e-3), "reference")
    assert not result.finite
    assert_same_tensors(state, before)


def assert_same_tensors(state: TrainState, wanted: dict[str, torch.Tensor]) -> None:
    """Bit equality of a whole state."""
    got = state.tensors()
    assert got.keys() == wanted.keys()
    for name, tensor in got.items():
        assert torch.equal(tensor, wanted[name]), name
