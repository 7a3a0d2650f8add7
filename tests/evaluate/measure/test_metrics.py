"""Accumulators against plain sums over tokens."""

import math

import numpy as np
import pytest
import torch

from scopeworks.evaluate.measure.metrics import (
    HISTOGRAM_EDGES,
    FeatureMeter,
    MeanActivation,
    PositionMeans,
    firing_summary,
    json_list,
    squared_distance,
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


def test_position_without_tokens_is_null_in_json():
    means = PositionMeans(2)
    means.add(torch.tensor([[False, True]]), v=torch.tensor([[5.0, 7.0]]))
    assert json_list(means.by_position("v")) == [None, 7.0]


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


def test_squared_distance_is_float64():
    a, b = torch.full((3,), 1.0), torch.full((3,), 1.0 + 1e-7)
    exact = 3 * (float(a[0]) - float(b[0])) ** 2
    assert float(squared_distance(a, b)) == pytest.approx(exact, rel=1e-12)


def test_feature_meter_counts_only_kept_positions_and_reconstructs_all():
    sae, generator = random_sae("resid_post.1"), torch.Generator().manual_seed(2)
    x = torch.randn(3, 5, 32, generator=generator)
    keep = torch.rand(3, 5, generator=generator) < 0.5
    meter = FeatureMeter(sae.encode, sae.decode, 48, "cpu")
    x_hat, l0 = meter(x, keep)
    torch.testing.assert_close(x_hat, sae(x))
    assert torch.equal(l0, (sae.encode(x) > 0).sum(-1))
    assert torch.equal(meter.fired, (sae.encode(x[keep]) > 0).sum(0))


def test_firing_summary_puts_every_alive_latent_in_one_bin():
    fired = torch.tensor([0, 0, 1, 5, 100, 1000])
    summary = firing_summary(fired, 1000)
    assert summary["n_dead"] == 2
    assert summary["n_above_10_percent"] == 1
    assert sum(summary["histogram"]) == 4
    for count in (1, 5, 100, 1000):
        log = math.log10(count / 1000)
        inside = np.searchsorted(HISTOGRAM_EDGES, log, side="right") - 1
        assert summary["histogram"][min(inside, len(HISTOGRAM_EDGES) - 2)] >= 1
    assert summary["quantiles_of_alive"]["0.50"] == pytest.approx((0.005 + 0.1) / 2)


def test_firing_summary_keeps_frequencies_below_the_lowest_edge():
    summary = firing_summary(torch.tensor([1]), 10**9)
    assert summary["histogram"][0] == 1


def test_firing_summary_of_dead_sae_has_no_quantiles():
    summary = firing_summary(torch.zeros(3, dtype=torch.int64), 10)
    assert summary["n_dead"] == 3
    assert set(summary["quantiles_of_alive"].values()) == {None}
