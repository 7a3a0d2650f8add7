"""The CPU's paths against the float64 step over random shapes, seeds, thresholds and objectives."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scopeworks.tests.reference.jumprelu_cases import check_step, grid_case
from scopeworks.train.kernels import StepSettings

pytest.importorskip("numba", reason="the cpu backend needs numba")


@st.composite
def objectives(draw: st.DrawFn, d_sae: int) -> StepSettings:
    """Settings whose gradients differ in kind."""
    quadratic = draw(st.booleans())
    weighted = draw(st.booleans())
    return StepSettings(
        lr=1e-3,
        sparsity=draw(st.sampled_from([0.0, 0.01, 2.0])),
        bandwidth=draw(st.sampled_from([0.25, 0.5, 2.0])),
        theta_form=draw(st.sampled_from(["raw", "log"])),
        penalty="quadratic" if quadratic else "linear",
        target_l0=draw(st.sampled_from([0.5, 4.0])) if quadratic else None,
        latent_weight=torch.arange(d_sae) / 4.0 if weighted else None,
    )


@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
@pytest.mark.parametrize("path", ["cpu/dense", "cpu/sparse", "cpu/screened"])
def test_step_matches_float64(path, data):
    batch, d = data.draw(st.integers(1, 70)), data.draw(st.integers(1, 40))
    d_sae, seed = data.draw(st.integers(1, 90)), data.draw(st.integers(0, 10**6))
    theta = data.draw(st.sampled_from([0.125, 1.0, 3.0, 100.0]))
    state, x = grid_case(batch, d, d_sae, seed, theta)
    check_step(path, state, x, x, data.draw(objectives(d_sae)))
