"""Every path of every backend against the float64 step: gradients, state, edge cases."""

from importlib.util import find_spec
from typing import Any

import pytest
import torch

from scopeworks.tests.reference.jumprelu_cases import (
    check_bad_row,
    check_step,
    check_strided_rows,
    float64_step,
    follow_float64,
    gaussian_case,
    grid_case,
)
from scopeworks.train import kernels
from scopeworks.train.kernels import (
    Parameters,
    StepSettings,
    TrainState,
    available_backends,
    step,
)

WIDE: dict[str, Any] = {"lr": 1e-3, "sparsity": 0.3, "bandwidth": 0.5}
# triton has tests of its own: its interpreter needs smaller cases.
PATHS = [
    "reference/dense",
    *(
        pytest.param(
            f"cpu/{path}",
            marks=pytest.mark.skipif(find_spec("numba") is None, reason="numba is not installed"),
        )
        for path in ("dense", "sparse", "screened")
    ),
]


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
@pytest.mark.parametrize("transcoder", [False, True])
def test_rows_of_any_strides_give_the_same_bits(path, transcoder):
    state, x = grid_case(20, 6, 40, seed=3, d_out=6 if transcoder else None)
    settings = StepSettings(**WIDE, pre_bias=not transcoder)
    check_strided_rows(path, state, x, x.roll(1, 1), settings)


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
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("d", [1, 6])
def test_non_finite_rows_leave_the_state_untouched(path, bad, d):
    """With d = 1 an x of −∞ turns every latent off, and the loss alone would not show it."""
    state, x = gaussian_case(33, d, 40, transcoder=True)
    check_bad_row(path, state, x, x.flip(0), bad)


@pytest.mark.parametrize("backend", ["reference", "cpu", "triton"])
def test_non_finite_rows_are_found_before_anything_is_computed(backend, monkeypatch):
    """One NaN would make every latent an entry of its row, and every pair a proposal."""
    if backend not in available_backends():
        pytest.skip(f"{backend} does not run here")
    state, x = gaussian_case(5, 6, 40)
    x[3, 2] = float("nan")
    module = kernels.backend_module(backend)
    monkeypatch.setattr(module, "step", None)
    result = step(state, x, x, StepSettings(lr=1e-3, sparsity=1e-3), backend)
    assert (result.finite, result.path) == (False, backend)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", ["W_enc", "b_enc", "W_dec", "b_dec"])
def test_non_finite_parameters_are_noticed(path, name):
    state, x = gaussian_case(33, 6, 40)
    getattr(state.parameters, name)[:] = float("nan")
    assert not step(state, x, x, StepSettings(lr=1e-3, sparsity=1e-3), path).finite


@pytest.mark.parametrize("path", PATHS)
def test_state_follows_float64_for_300_steps(path):
    state, x = gaussian_case(128, 12, 48, theta=0.2)
    settings = StepSettings(lr=5e-4, sparsity=2e-3, bandwidth=0.02)
    follow_float64(path, state, list(x.split(16)), settings, n_steps=300)


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
    batches = [x[row : row + 1] for row in [0] + [1] * missed + [0]]
    results = follow_float64(path, state, batches, settings, len(batches))
    assert [result.fired.tolist() for result in results[-2:]] == [[0, 1], [1, 0]]
    assert state.last_update[0] == len(batches)


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
