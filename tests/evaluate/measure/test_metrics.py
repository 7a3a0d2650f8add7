"""Accumulators against plain sums over tokens."""

import pytest
import torch

from scopeworks.evaluate.measure.metrics import (
    FeatureMeter,
    MeanActivation,
    PositionMeans,
    VectorComparison,
)
from scopeworks.tests.evaluate.saes import random_sae


def test_position_means_ignore_what_does_not_count():
    values = torch.tensor([[1.0, 2.0, float("nan")], [3.0, float("nan"), 9.0]])
    keep = torch.tensor([[True, True, False], [True, False, True]])
    means = PositionMeans(3)
    means.add(keep[:1], v=values[:1])
    means.add(keep[1:], v=values[1:])
    assert means.n_tokens == 4
    assert means.mean("v") == (1 + 2 + 3 + 9) / 4
    assert means.by_position("v").tolist() == [2.0, 2.0, 9.0]


def test_position_means_are_summed_in_float64():
    # In float32, 2^24 + 1 is 2^24: a float32 sum would stand still.
    means, keep = PositionMeans(1), torch.ones(1, 1, dtype=torch.bool)
    means.add(keep, v=torch.full((1, 1), 2.0**24))
    for _ in range(8):
        means.add(keep, v=torch.ones(1, 1))
    assert means.mean("v") == (2.0**24 + 8) / 9


def test_standard_error_by_position_is_that_of_independent_draws():
    generator = torch.Generator().manual_seed(3)
    values, keep = torch.randn(9, 3, generator=generator), torch.ones(9, 3, dtype=torch.bool)
    keep[2:, 1], keep[:, 2] = False, False
    keep[4, 2] = True
    means = PositionMeans(3)
    means.add(keep[:5], v=values[:5])
    means.add(keep[5:], v=values[5:])
    found = means.stderr_by_position("v").tolist()
    assert found[0] == pytest.approx(float(values[:, 0].double().std()) / 3, rel=1e-9)
    assert found[1] == pytest.approx(float(values[:2, 1].double().std()) / 2**0.5, rel=1e-9)
    assert found[2] != found[2]  # one token has no spread


def test_mean_activation_equals_mean_of_kept_rows():
    generator = torch.Generator().manual_seed(1)
    x = 1e3 + torch.randn(5, 7, 4, generator=generator)
    keep = torch.rand(5, 7, generator=generator) < 0.6
    mean = MeanActivation(4)
    for part in (slice(0, 2), slice(2, 5)):
        mean.add(x[part], keep[part])
    rows = [x[s, t].double() for s in range(5) for t in range(7) if keep[s, t]]
    assert mean.count == len(rows)
    torch.testing.assert_close(mean.value, sum(rows) / len(rows), rtol=1e-14, atol=0)


def compare(x, x_hat, keep=None):
    comparison = VectorComparison(x.shape[-1])
    keep = torch.ones(x.shape[:-1], dtype=torch.bool) if keep is None else keep
    return comparison, comparison(x, x_hat, keep)


def test_squared_errors_are_float64():
    a, b = torch.full((1, 1, 3), 1.0), torch.full((1, 1, 3), 1.0 + 1e-7)
    exact = 3 * (float(a[0, 0, 0]) - float(b[0, 0, 0])) ** 2
    assert float(compare(a, b)[1]["error"]) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e18])
def test_squares_of_any_scale_are_float64(scale):
    x = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(0))
    scaled = compare(x * scale, torch.zeros(1, 5, 8))[1]["square"]
    unscaled = compare(x, torch.zeros(1, 5, 8))[1]["square"] * scale**2
    torch.testing.assert_close(scaled, unscaled, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("at_once", [1, 3 * 4, 2**22])
def test_comparison_in_parts_counts_only_kept_positions(at_once, monkeypatch):
    monkeypatch.setattr("scopeworks.evaluate.measure.metrics.MAX_DOUBLES", at_once)
    generator = torch.Generator().manual_seed(4)
    x, x_hat = (torch.randn(3, 5, 4, generator=generator) for _ in range(2))
    keep = torch.rand(3, 5, generator=generator) < 0.6
    x[~keep] = torch.nan
    comparison, found = compare(x, x_hat, keep)
    rows, rows_hat = x[keep].double(), x_hat[keep].double()
    squares = (rows - rows_hat).square()
    torch.testing.assert_close(comparison.squares, squares.sum(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(found["error"][keep], squares.sum(1), rtol=1e-12, atol=0)
    cosine = torch.nn.functional.cosine_similarity(rows, rows_hat)
    torch.testing.assert_close(found["cosine"][keep], cosine, rtol=1e-9, atol=1e-12)
    ratio = rows_hat.norm(dim=1) / rows.norm(dim=1)
    torch.testing.assert_close(found["norm_ratio"][keep], ratio, rtol=1e-12, atol=0)


def test_a_vector_of_zeros_has_no_direction():
    x = torch.tensor([[[3.0, 4.0], [0.0, 0.0], [0.0, 0.0]]])
    x_hat = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]])
    found = compare(x, x_hat)[1]
    assert found["cosine"].tolist() == [[0.0, 0.0, 0.0]]
    assert found["norm_ratio"].tolist() == [[0.0, 0.0, 0.0]]


def test_feature_meter_counts_only_kept_positions_and_reconstructs_all():
    sae, generator = random_sae("resid_post.1"), torch.Generator().manual_seed(2)
    x = torch.randn(3, 5, 32, generator=generator)
    keep = torch.rand(3, 5, generator=generator) < 0.5
    meter = FeatureMeter(sae.encode, sae.decode, 48, "cpu")
    x_hat, l0 = meter(x, keep)
    torch.testing.assert_close(x_hat, sae(x))
    assert torch.equal(l0, (sae.encode(x) > 0).sum(-1))
    assert torch.equal(meter.fired, (sae.encode(x[keep]) > 0).sum(0))
