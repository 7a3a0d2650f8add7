"""The encoder option "bfloat16": exact where its product is, and rounded no more than it says."""

from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

from scopeworks.tests.reference.jumprelu_cases import check_step, copy_of, whole_number_case
from scopeworks.train.kernels import StepSettings, TrainState, initial_parameters, step

WIDE = StepSettings(lr=1e-3, sparsity=0.3, bandwidth=0.5, encoder="bfloat16")
BACKENDS = [
    pytest.param(name, marks=pytest.mark.skipif(find_spec(module) is None, reason=module))
    for name, module in (("cpu", "numba"), ("triton", "triton"))
]


def device_of(backend: str) -> str:
    """Where the backend runs here: triton is interpreted where there is no GPU."""
    return "cuda" if backend == "triton" and torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("backend", BACKENDS)
def test_step_with_exact_products_matches_float64(backend):
    state, x = whole_number_case(24, 7, 40, device=device_of(backend))
    check_step(f"{backend}/bfloat16", state, x, x, WIDE)


@pytest.mark.parametrize("backend", BACKENDS)
def test_z_is_the_rounded_product(backend):
    """With random rows: L0 is that of z = bfloat16(x16 · w16) + bias, which float32's is not."""
    generator = torch.Generator().manual_seed(0)
    device = device_of(backend)
    p = initial_parameters(16, 16, 64, 0.5, 0, device=device)
    x = torch.randn(40, 16, generator=generator).to(device)
    z = (x.bfloat16().double() @ p.W_enc.bfloat16().double()).bfloat16().float() + p.b_enc
    exact = (x @ p.W_enc > p.theta).sum()
    wanted = (z > p.theta).sum()
    assert wanted != exact
    found = step(TrainState.fresh(p), x, x, replace(WIDE, bandwidth=1e-3), f"{backend}/bfloat16")
    assert found.l0 == pytest.approx(float(wanted) / 40, abs=1 / 40)


@pytest.mark.parametrize("backend", BACKENDS)
def test_copy_of_the_weights_is_kept_up(backend):
    state, x = whole_number_case(24, 7, 40, device=device_of(backend))
    settings = replace(WIDE, lr=0.05)
    for _ in range(3):
        step(state, x, x, settings, f"{backend}/bfloat16")
    fresh = copy_of(state)
    one, two = (step(s, x, x, settings, f"{backend}/bfloat16") for s in (state, fresh))
    assert (one.loss, one.l0) == (two.loss, two.l0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_tf32_is_refused_without_cuda(backend):
    if device_of(backend) == "cuda":
        pytest.skip("there is CUDA")
    state, x = whole_number_case(24, 7, 40)
    with pytest.raises(ValueError, match="tf32 needs a CUDA device"):
        step(state, x, x, replace(WIDE, encoder="tf32"), backend)
