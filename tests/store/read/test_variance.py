"""Variance from sums, and what counts as constant, at every scale that float32 holds."""

import numpy as np
import pytest
import torch

from scopeworks.store.read.variance import is_constant, total_variance

SCALES = [1e-30, 1e-24, 1e-12, 1.0, 1e12, 1e19, 1e30]


def sums_of(x: np.ndarray) -> tuple[np.ndarray, float, int]:
    x = x.astype(np.float64)
    return x.sum(0), float((x * x).sum()), len(x)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_variance_is_that_of_the_rows_at_any_scale(scale, mean):
    x = np.random.default_rng(0).standard_normal((4000, 12)) + mean
    expected = float(((x - x.mean(0)) ** 2).sum(1).mean())
    found = total_variance(*sums_of(x * scale))
    assert found / scale**2 == pytest.approx(expected, rel=1e-10)
    assert not is_constant(found, found)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("value", [300.0, 0.1, -1 / 3])
def test_constant_rows_have_no_variance_at_any_scale(scale, value):
    channels = value * scale * np.linspace(0.5, 1, 7)
    assert total_variance(*sums_of(np.tile(channels, (3000, 1)))) == 0.0


def test_a_tensor_of_sums_gives_the_same_variance():
    total, squares, n = sums_of(np.random.default_rng(1).standard_normal((50, 3)))
    assert total_variance(torch.from_numpy(total), squares, n) == total_variance(total, squares, n)


def test_one_bit_of_bfloat16_is_variation():
    x = np.full((1000, 4), 300.0)
    x[::2] += 2.0  # the next bfloat16
    assert total_variance(*sums_of(x)) == pytest.approx(4.0)


def test_zero_rows_are_constant_and_nan_is_not():
    assert is_constant(0.0, 0.0)
    assert not is_constant(float("nan"), 1.0)
