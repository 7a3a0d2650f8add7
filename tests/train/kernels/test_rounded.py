"""The encoder option "bfloat16": exact where its product is, and rounded no more than it says."""

from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

from scopeworks.tests.reference.jumprelu_cases import check_step
from scopeworks.train.kernels import StepSettings, TrainState, initial_parameters, step

WIDE = StepSettings(lr=1e-3, sparsity=0.3, bandwidth=0.5, encoder="bfloat16")
BACKENDS = [
    pytest.param(name, marks=pytest.mark.skipif(find_spec(module) is None, reason=module))
    for name, module in (("cpu", "numba"), ("triton", "triton"))
]


def whole_numbers(batch: int, d: int, d_sae: int) -> tuple[TrainState, torch.Tensor]:
    """A state and rows of which every product is exact in bfloat16, θ is hit now and then."""
    generator = torch.Generator().manual_seed(0)
    p = initial_parameters(d, d, d_sae, 1.0, 0)
    p.W_enc.copy_(torch.randint(-1, 2, (d, d_sae), generator=generator))
    p.b_dec.copy_(torch.randint(-1, 2, (d,), generator=generator))
    p.b_enc.copy_(torch.randint(-8, 9, (d_sae,), generator=generator) / 8)
    x = torch.randint(-1, 2, (batch, d), generator=generator).float()
    return TrainState.fresh(p), x


@pytest.mark.parametrize("backend", BACKENDS)
def test_step_with_exact_products_matches_float64(backend):
    state, x = whole_numbers(24, 7, 40)
    check_step(f"{backend}/bfloat16", state, x, x, WIDE)


@pytest.mark.parametrize("backend", BACKENDS)
def test_z_is_the_rounded_product(backend):
    """With random rows: L0 is that of z = bfloat16(x16 · w16) + bias, which float32's is not."""
    generator = torch.Generator().manual_seed(0)
    p = initial_parameters(16, 16, 64, 0.5, 0)
    x = torch.randn(40, 16, generator=generator)
    z = (x.bfloat16().double() @ p.W_enc.bfloat16().double()).bfloat16().float() + p.b_enc
    exact = (x @ p.W_enc > p.theta).sum()
    wanted = (z > p.theta).sum()
    assert wanted != exact
    found = step(TrainState.fresh(p), x, x, replace(WIDE, bandwidth=1e-3), f"{backend}/bfloat16")
    assert found.l0 == pytest.approx(float(wanted) / 40, abs=1 / 40)


@pytest.mark.parametrize("backend", BACKENDS)
def test_copy_of_the_weights_is_kept_up(backend):
    state, x = whole_numbers(24, 7, 40)
    settings = replace(WIDE, lr=0.05)
    for _ in range(3):
        step(state, x, x, settings, f"{backend}/bfloat16")
    named = {name: tensor.clone() for name, tensor in state.tensors().items()}
    fresh = TrainState.from_tensors(named)
    one, two = (step(s, x, x, settings, f"{backend}/bfloat16") for s in (state, fresh))
    assert (one.loss, one.l0) == (two.loss, two.l0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_tf32_is_refused_without_cuda(backend):
    state, x = whole_numbers(24, 7, 40)
    with pytest.raises(ValueError, match="tf32 needs a CUDA device"):
        step(state, x, x, replace(WIDE, encoder="tf32"), backend)
