"""Intervals over sequences against slow twins and plain statistics."""

import math

import pytest
import torch
from scipy import stats

from scopeworks.evaluate.measure.intervals import (
    MIN_SEQUENCES,
    SequenceSums,
    ratio,
    t_quantile,
)


@pytest.mark.parametrize("freedom", [15, 16, 31, 127, 2047, 20000])
def test_quantile_of_students_t(freedom):
    assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), abs=2e-6)


def sequences(n, seed=0):
    """Values at six positions of n sequences, of which some do not count."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(n, 6, generator=generator)
    return values, torch.rand(n, 6, generator=generator) < 0.7


def test_mean_and_its_error_are_those_of_sequence_means_when_lengths_are_equal():
    values, _ = sequences(20)
    sums, keep = SequenceSums(), torch.ones(20, 6, dtype=torch.bool)
    sums.add(keep[:4], v=values[:4])
    sums.add(keep[4:], v=values[4:])
    means, found = values.double().mean(1), sums.mean("v")
    assert found.value == pytest.approx(float(means.mean()), rel=1e-12)
    assert found.stderr == pytest.approx(float(means.std()) / math.sqrt(20), rel=1e-12)
    low, high = stats.t.interval(0.95, 19, found.value, found.stderr)
    assert found.interval == pytest.approx([low, high], rel=1e-5)


def test_what_does_not_count_changes_nothing():
    values, keep = sequences(20)
    sums, others = SequenceSums(), SequenceSums()
    sums.add(keep, v=values)
    others.add(keep, v=torch.where(keep, values, torch.nan))
    assert sums.mean("v") == others.mean("v")
    assert sums.mean("v").value == pytest.approx(float(values[keep].double().mean()), rel=1e-12)


def test_error_of_a_ratio_is_near_that_of_the_jackknife():
    values, keep = sequences(60)
    sums = SequenceSums()
    sums.add(keep, a=values.square(), b=values)
    a, b = sums["a"], sums["b"]
    found, n = ratio(a, b), len(a)
    without = torch.stack([(a.sum() - a[i]) / (b.sum() - b[i]) for i in range(n)])
    jackknife = ((n - 1) / n * (without - without.mean()).square().sum()).sqrt()
    assert found.value == pytest.approx(float(a.sum() / b.sum()), rel=1e-12)
    assert found.stderr == pytest.approx(float(jackknife), rel=0.05)


def test_offset_moves_the_value_and_no_error():
    a, b = sequences(30)[0][:, 0].double(), sequences(30, seed=1)[0][:, 0].double()
    plain, moved = ratio(a, b), ratio(-a, b, offset=1.0)
    assert moved.value == pytest.approx(1 - plain.value, rel=1e-12)
    assert moved.stderr == pytest.approx(plain.stderr, rel=1e-12)


def test_sequences_without_counted_positions_are_no_draws():
    values, keep = sequences(MIN_SEQUENCES)
    keep[:, 0] = True
    sums, more = SequenceSums(), SequenceSums()
    sums.add(keep, v=values)
    more.add(keep, v=values)
    more.add(torch.zeros(5, 6, dtype=torch.bool), v=values[:5])
    assert more.mean("v") == sums.mean("v")


def test_too_few_sequences_give_no_interval():
    for n, given in ((MIN_SEQUENCES - 1, False), (MIN_SEQUENCES, True)):
        values, _ = sequences(n)
        sums = SequenceSums()
        sums.add(torch.ones(n, 6, dtype=torch.bool), v=values)
        assert (sums.mean("v").interval is not None) == given
        assert sums.mean("v").stderr is not None


def test_one_sequence_has_no_error():
    sums = SequenceSums()
    sums.add(torch.tensor([[True, False]]), v=torch.tensor([[0.5, 9.0]]))
    found = sums.mean("v")
    assert (found.value, found.stderr, found.interval) == (0.5, None, None)


def test_nothing_over_nothing_is_none():
    nothing = ratio(torch.zeros(30), torch.zeros(30))
    assert math.isnan(nothing.value)
    assert nothing.interval is None
