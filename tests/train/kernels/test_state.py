"""Layout, initial values, checkpoint form and settings of the training state."""

import pytest
import torch

from scopeworks.tests.reference.jumprelu_cases import gaussian_case
from scopeworks.train.kernels import (
    StepSettings,
    TrainState,
    bytes_needed,
    initial_parameters,
    step,
)


def test_initial_sae_ties_unit_rows_and_starts_at_theta():
    p = initial_parameters(12, 12, 40, theta=0.01, seed=3)
    torch.testing.assert_close(p.W_dec.norm(dim=1), torch.ones(40))
    assert torch.equal(p.W_enc, p.W_dec.t())
    assert p.W_enc.data_ptr() != p.W_dec.data_ptr()
    assert p.W_enc.t().is_contiguous()
    assert torch.equal(p.theta, torch.full((40,), 0.01))
    assert not p.b_enc.any()
    assert not p.b_dec.any()
    assert p.W_skip is None


def test_initial_transcoder_is_untied_and_its_skip_is_zero():
    p = initial_parameters(12, 7, 40, transcoder=True, skip=True)
    assert (p.W_enc.shape, p.W_dec.shape) == ((12, 40), (40, 7))
    assert p.W_skip is not None
    assert (p.W_skip.shape, bool(p.W_skip.any())) == ((12, 7), False)
    square = initial_parameters(12, 12, 40, transcoder=True)
    assert not torch.equal(square.W_enc, square.W_dec.t())


def test_initial_values_follow_the_seed():
    first, again, other = (initial_parameters(6, 6, 9, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.W_dec, again.W_dec)
    assert not torch.equal(first.W_dec, other.W_dec)


@pytest.mark.parametrize("skip", [False, True])
def test_state_survives_its_checkpoint_form_with_layout(skip):
    p = initial_parameters(6, 6, 9, transcoder=skip, skip=skip)
    state = TrainState.fresh(p)
    x = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    settings = StepSettings(lr=1e-3, sparsity=1e-3, pre_bias=not skip)
    step(state, x, x, settings)
    named = {name: tensor.clone() for name, tensor in state.tensors().items()}
    assert all(tensor.is_contiguous() for tensor in named.values())
    copy = TrainState.from_tensors(named)
    assert (copy.n_updates, copy.entries_per_row) == (state.n_updates, state.entries_per_row)
    assert copy.parameters.W_enc.t().is_contiguous()
    assert torch.equal(copy.second_moments.W_enc, state.second_moments.W_enc)
    first, second = (step(s, x, x, settings) for s in (state, copy))
    assert first.loss == second.loss
    assert torch.equal(state.parameters.W_enc, copy.parameters.W_enc)


def test_checkpoint_that_is_no_state_is_refused():
    named = TrainState.fresh(initial_parameters(3, 3, 4)).tensors()
    with pytest.raises(ValueError, match=r"whole training state.*last_update"):
        TrainState.from_tensors({k: v for k, v in named.items() if k != "last_update"})
    with pytest.raises(ValueError, match=r"training state only.*extra"):
        TrainState.from_tensors(named | {"extra": torch.zeros(1)})


def test_settle_makes_up_missed_decays_once():
    state, _ = gaussian_case(4, 5, 3)
    for _, moment in state.second_moments.items():
        moment.fill_(1.0)
    state.n_updates, state.last_update = 1000, torch.tensor([1000, 999, 0])
    state.settle(0.999)
    state.settle(0.999)
    wanted = torch.tensor([1.0, 0.999, 0.999**1000])
    torch.testing.assert_close(state.second_moments.theta, wanted)
    torch.testing.assert_close(state.second_moments.W_dec, wanted[:, None].expand(3, 5))
    torch.testing.assert_close(state.second_moments.W_enc, wanted.expand(5, 3))
    torch.testing.assert_close(state.second_moments.b_dec, torch.ones(5))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"lr": -1.0}, "lr must be at least 0, got -1"),
        ({"sparsity": float("nan")}, "sparsity must be a finite number, got nan"),
        ({"bandwidth": 0.0}, "bandwidth must be above 0, got 0"),
        ({"beta2": 1.0}, "beta2 must be between 0 and 1, got 1"),
        ({"theta_form": "sqrt"}, "theta_form must be raw or log, got sqrt"),
        ({"penalty": "cubic"}, "penalty must be linear or quadratic, got cubic"),
        (
            {"sparsity": -0.1, "penalty": "quadratic", "target_l0": 3.0},
            "sparsity must be at least 0 for the quadratic penalty, got -0.1",
        ),
        ({"penalty": "quadratic"}, "target_l0 must be above 0 .* got None"),
    ],
)
def test_settings_out_of_range_are_refused(change, text):
    with pytest.raises(ValueError, match=text):
        StepSettings(**({"lr": 1e-3, "sparsity": 1e-3} | change))


def test_quadratic_coefficient_defaults_to_the_linear_slope_at_twice_the_target():
    settings = StepSettings(lr=0, sparsity=1, penalty="quadratic", target_l0=20.0)
    assert 2 * settings.coefficient * (40 - 20) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"x": torch.zeros(4, 6)}, "x must be rows of width 5, got .4, 6"),
        ({"x": torch.zeros(0, 5)}, "x must be rows of width 5, got .0, 5"),
        ({"x": torch.zeros(4, 5, dtype=torch.float64)}, "x must be float32, got torch.float64"),
        ({"target": torch.zeros(3, 5)}, "target must have x's 4 rows, got 3"),
        ({"backend": "cuda"}, "backend must be one of .*reference.* on cpu, got cuda"),
        ({"latent_weight": torch.zeros(2)}, r"latent_weight must be one .* \(3\), got \[2\]"),
    ],
)
def test_batches_that_do_not_fit_are_refused(change, text):
    state, x = gaussian_case(4, 5, 3)
    settings = StepSettings(lr=1e-3, sparsity=1e-3, latent_weight=change.pop("latent_weight", None))
    call = {"x": x, "target": x} | change
    with pytest.raises(ValueError, match=text):
        step(state, settings=settings, **call)


def test_pre_bias_needs_equal_widths():
    state = TrainState.fresh(initial_parameters(4, 3, 5, transcoder=True))
    with pytest.raises(ValueError, match=r"pre_bias must be off .* got 4 and 3"):
        step(state, torch.zeros(2, 4), torch.zeros(2, 3), StepSettings(lr=0, sparsity=0))


def test_bytes_needed_counts_parameters_one_moment_and_the_dense_step():
    small, wide = (bytes_needed(64, 64, width, 128) for width in (1000, 2000))
    per_latent = 4 * 3 * (64 + 64 + 2) + 4 * 4 * 128 + 8
    assert wide - small == 1000 * per_latent
    assert bytes_needed(64, 64, 1000, 128, skip=True) - small == 4 * 3 * 64 * 64


def test_bytes_needed_by_shards_counts_an_eighth_of_the_gradients():
    small, wide = (bytes_needed(64, 64, width, 128, backend="cpu") for width in (1000, 2000))
    assert wide - small == 1000 * (4 * 2 * 130 + 4 * 130 // 8 + 4 * 3 * 128 + 8)
