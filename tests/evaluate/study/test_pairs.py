"""Ratios of frontiers at equal L0."""

import math

import pytest

from scopeworks.evaluate.study.pairs import as_change, log_ratio, paired, percent, times
from scopeworks.evaluate.study.statistics import Estimate


def curve(factor: float, *l0s: float):
    return [(l0, Estimate(factor / l0)) for l0 in l0s]


def test_a_factor_is_found_wherever_the_points_are():
    assert log_ratio(curve(2, 5, 20, 40), curve(1, 10, 30)) == pytest.approx(math.log(2))
    assert log_ratio(curve(3, 5, 20), curve(1, 5, 20)) == pytest.approx(math.log(3))


def test_frontiers_that_do_not_meet_or_are_not_above_zero_have_no_ratio():
    assert log_ratio(curve(1, 1, 2), curve(1, 3, 4)) is None
    assert log_ratio([], curve(1, 3, 4)) is None
    assert log_ratio(curve(3, 10), curve(1, 5, 20)) is None  # a point is no frontier
    assert log_ratio([(3, Estimate(0.0)), (4, Estimate(1.0))], curve(1, 3, 4)) is None


def test_units_that_both_have_are_paired():
    a = {0: curve(2, 1, 9), 1: curve(2, 1, 9), 2: curve(8, 1, 9), 3: curve(9, 20, 30)}
    b = {0: curve(1, 1, 9), 1: curve(1, 1, 9), 3: curve(1, 1, 9)}
    found = paired(a, b)
    assert found is not None and found.n == 2
    assert (found.value, found.low, found.high) == pytest.approx((math.log(2),) * 3)
    assert paired({0: a[0]}, {1: b[1]}) is None


def test_words():
    ratio = Estimate(math.log(1.5), math.log(1.2), math.log(2.0), 3)
    assert percent(as_change(ratio)) == "+50.0% (+20.0 to +100.0)"
    assert times(ratio) == "1.5 (1.2 to 2)"
    assert percent(as_change(Estimate(0.0))) == "+0.0%"
    assert (percent(None), times(None)) == ("unknown", "an unknown number of")
