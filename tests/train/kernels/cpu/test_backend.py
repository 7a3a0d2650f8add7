"""What is the CPU backend's own: path choice, the screened encoder's bound, its bfloat16 copy."""

import numpy as np
import pytest
import torch

from scopeworks.tests.reference.jumprelu_cases import gaussian_case, grid_case
from scopeworks.train.kernels import Share, StepSettings, TrainState, available_backends, step

pytest.importorskip("numba", reason="the cpu backend needs numba")

from scopeworks.train.kernels.cpu import backend as cpu
from scopeworks.train.kernels.cpu import encode as cpu_encode
from scopeworks.train.kernels.cpu.workspace import Workspace
from scopeworks.train.kernels.screen import row_terms

SETTINGS = StepSettings(lr=1e-3, sparsity=1e-3, bandwidth=0.01)


def listed(entries) -> list[tuple[int, int, float]]:
    """Entries as sorted (latent, row, z)."""
    return sorted(
        (i, int(entries.rows[e]), float(entries.z[e]))
        for i in range(entries.start.size)
        for e in range(entries.start[i], entries.start[i] + entries.length[i])
    )


def found(state: TrainState, x: torch.Tensor, half: float, path: str):
    """The entries above a window of half a width."""
    settings = StepSettings(lr=1e-3, sparsity=1e-3, bandwidth=2 * half)
    share = Share.whole(state.parameters.d_sae)
    return cpu_encode.find_entries(state, x, settings, share, Workspace(), path).entries


def test_cpu_is_the_default_on_cpu():
    assert available_backends("cpu")[0] == "cpu"


@pytest.mark.parametrize("path", ["sparse", "screened"])
@pytest.mark.parametrize(("batch", "d", "d_sae"), [(50, 8, 70), (1, 3, 5), (33, 5, 2100)])
def test_entries_are_exactly_those_above_the_window(path, batch, d, d_sae):
    state, x = grid_case(batch, d, d_sae, seed=7)
    p, half = state.parameters, 0.25
    z = (x - p.b_dec).double() @ p.W_enc.double() + p.b_enc
    above = torch.nonzero(z > p.theta.double() - half).tolist()
    wanted = {(i, b, float(z[b, i])) for b, i in above}
    got = listed(found(state, x, half, path))
    assert len(got) == len(set(got))
    assert wanted <= set(got)
    # A z exactly on the window's lower edge may be listed: no gradient depends on it.
    assert all(z == float(p.theta[i]) - half for i, _, z in set(got) - wanted)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("shape", ["gaussian", "outliers", "cancelling"])
def test_screen_misses_no_entry(scale, shape):
    state, x = gaussian_case(64, 96, 300, seed=5)
    p = state.parameters
    generator = torch.Generator().manual_seed(0)
    if shape == "outliers":
        x[:, ::17] *= 300
        p.W_enc.t()[::3] *= torch.rand(100, 1, generator=generator) * 40
    if shape == "cancelling":
        # w nearly orthogonal to x: all of z is what rounding might lose.
        W = p.W_enc.t()
        along = 0.01 * torch.randn(300, 1, generator=generator)
        W -= (W @ x[:1].t() - along) @ x[:1] / (x[:1] @ x[:1].t())
        x.copy_(x[:1] * (1 + torch.rand(64, 1, generator=generator)))
    x *= scale
    p.b_enc.copy_(torch.randn(300, generator=generator) * 0.01 * scale)
    z = (x.double() @ p.W_enc.double() + p.b_enc).t()
    # θ in the middle of each latent's own values: half of its rows are entries, many of them close.
    p.theta.copy_(z.median(dim=1).values.float().clamp(min=1e-6))
    entries = found(state, x, 1e-30, "screened")
    got = {(i, b) for i, b, _ in listed(entries)}
    # Beyond float32's own rounding of z every entry must be there, and nothing else.
    rounding = 96 * 2.0**-24 * (x.norm(dim=1) * p.W_enc.norm(dim=0)[:, None]).double()
    above = z - p.theta[:, None]
    surely = {tuple(entry) for entry in torch.nonzero(above > rounding).tolist()}
    maybe = {tuple(entry) for entry in torch.nonzero(above > -rounding).tolist()}
    assert len(surely) > 3000
    assert surely <= got <= maybe


def test_bfloat16_bound_holds_and_is_not_idle():
    state, x = gaussian_case(64, 96, 300)
    rounded = cpu_encode.rounded_copy(state)
    x16 = x.bfloat16()
    terms = row_terms(x, x16)
    W16 = torch.from_numpy(rounded.copy).view(torch.bfloat16)
    product = W16.double() @ x16.double().t()
    error = (product - state.parameters.W_enc.t().double() @ x.double().t()).abs().numpy()
    bound = np.outer(rounded.rounded_norm, terms.error) + np.outer(rounded.error_norm, terms.norm)
    assert (error <= bound).all()
    assert bound.max() < 2**-7 * float(x.norm(dim=1).max())


def test_bfloat16_copy_rounds_like_torch_and_is_kept_up_by_the_update():
    state, x = gaussian_case(64, 24, 100)
    for _ in range(3):
        step(state, x, x, SETTINGS, "cpu/screened")
    kept = state.scratch["rounded"]
    wanted = state.parameters.W_enc.t().bfloat16()
    assert torch.equal(torch.from_numpy(kept.copy).view(torch.bfloat16), wanted)
    norms = kept.rounded_norm.copy(), kept.error_norm.copy()
    state.scratch.clear()
    fresh = cpu_encode.rounded_copy(state)
    assert np.array_equal(fresh.rounded_norm, norms[0])
    assert np.array_equal(fresh.error_norm, norms[1])


def test_weights_changed_from_outside_are_not_screened_with_an_old_copy():
    settings = SETTINGS
    changed, x = gaussian_case(64, 24, 100)
    step(changed, x, x, settings, "cpu/screened")
    changed.parameters.W_enc.mul_(-1.0)
    fresh = TrainState.from_tensors({k: v.clone() for k, v in changed.tensors().items()})
    first, second = (step(state, x, x, settings, "cpu/screened") for state in (changed, fresh))
    assert first.loss == second.loss
    assert first.l0 > 0


@pytest.mark.parametrize(
    ("share", "encoder", "path"),
    [
        (0.5, "auto", "dense"),
        (0.5, "screened", "dense"),
        (0.06, "auto", "sparse"),
        (0.003, "float32", "sparse"),
        (0.003, "screened", "screened"),
    ],
)
def test_path_follows_the_entries_of_the_last_step(share, encoder, path):
    state, x = gaussian_case(8, 4, 1000)
    state.entries_per_row = share * 1000
    settings = StepSettings(lr=0, sparsity=0, encoder=encoder)
    assert cpu.choose_path(state, x, settings, Share.whole(1000)) == path


@pytest.mark.parametrize(("theta", "path"), [(1e-3, "dense"), (10.0, "sparse")])
def test_first_step_counts_the_entries_itself(theta, path):
    state, x = gaussian_case(80, 16, 300, theta=theta)
    settings = StepSettings(lr=0, sparsity=0, encoder="float32")
    assert step(state, x, x, settings).path == f"cpu/{path}"


def test_switch_from_dense_to_sparse_is_continuous():
    # θ grows through training so that the entries fall across the switch.
    settings = StepSettings(lr=5e-3, sparsity=0.05, bandwidth=0.05)
    runs = {}
    for backend in ("auto", "cpu/dense"):
        state, x = gaussian_case(256, 16, 400, theta=0.02)
        runs[backend] = [step(state, x, x, settings, backend) for _ in range(120)]
    paths = [result.path for result in runs["auto"]]
    assert paths[0] == "cpu/dense"
    assert paths[-1] != "cpu/dense"
    for mixed, dense in zip(*runs.values(), strict=True):
        assert mixed.loss == pytest.approx(dense.loss, rel=1e-4)


def test_float32_precision_setting_is_restored():
    before = torch.get_float32_matmul_precision()
    with cpu_encode.fast_float32():
        pass
    state, x = gaussian_case(8, 4, 30)
    step(state, x, x, SETTINGS, "cpu/sparse")
    assert torch.get_float32_matmul_precision() == before


def test_fast_float32_products_are_float32_exact():
    a, b = torch.randn(2, 256, 576, generator=torch.Generator().manual_seed(1))
    with cpu_encode.fast_float32():
        product = a @ b.t()
    exact = a.double() @ b.double().t()
    assert float((product - exact).norm() / exact.norm()) < 1e-6


def test_results_do_not_depend_on_helper_threads():
    states = []
    n_threads = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            state, x = grid_case(64, 8, 300, seed=9)
            step(state, x, x, StepSettings(lr=1e-3, sparsity=0.1, bandwidth=0.5), "cpu/sparse")
            states.append(state.tensors())
    finally:
        torch.set_num_threads(n_threads)
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name
