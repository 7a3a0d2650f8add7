"""Ratios of frontiers at equal L0."""

import math

import pytest

from scopeworks.evaluate.study.pairs import (
    as_change,
    compared,
    counted,
    log_ratio,
    log_ratios,
    paired,
    percent,
    ratio_numbers,
    stops,
    times,
)
from scopeworks.evaluate.study.statistics import Quantity


def curve(factor: float, *l0s: float):
    return [(l0, Quantity(factor / l0)) for l0 in l0s]


def test_a_factor_is_found_wherever_the_points_are():
    assert log_ratio(curve(2, 5, 20, 40), curve(1, 10, 30)) == pytest.approx(math.log(2))
    assert log_ratio(curve(3, 5, 20), curve(1, 5, 20)) == pytest.approx(math.log(3))


def test_frontiers_that_do_not_meet_or_are_not_above_zero_have_no_ratio():
    assert log_ratio(curve(1, 1, 2), curve(1, 3, 4)) is None
    assert log_ratio([], curve(1, 3, 4)) is None
    assert log_ratios(curve(1, 1, 2), curve(1, 3, 4)) == "no L0 in common"
    fallen = [(3, Quantity(0.0)), (4, Quantity(1.0))]
    assert log_ratios(fallen, curve(1, 3, 4)) == "a value that is not above 0"
    assert log_ratio(fallen, curve(1, 3, 4)) is None


def test_stops_are_even_in_log_l0_over_what_all_frontiers_reach():
    found = stops(curve(1, 1, 64), curve(1, 4, 900))
    assert found == pytest.approx([4, 8, 16, 32, 64]) and found[-1] == 64
    assert stops(curve(1, 1, 2), curve(1, 3)) == stops(curve(1, 1, 2), []) == stops() == []


def test_a_point_is_compared_at_its_own_l0():
    assert log_ratio(curve(3, 10), curve(1, 5, 20)) == pytest.approx(math.log(3))


def test_a_sign_that_turns_at_an_end_is_seen():
    found = compared([[[-3.0, -2.0, 1.0]], [[-3.0, -2.0, 2.0], [-5.0, -2.0, 4.0]]])
    assert found.mean is not None and found.mean.value == pytest.approx((-4 / 3 - 1) / 2)
    assert [one.value for one in found.at] == [-3.5, -2.0, 2.0]
    assert list(found.turned) == ["densest"]


def test_what_cannot_be_compared_is_counted_by_its_reason():
    found = compared([[[1.0, 1.0], "a gap"], ["a gap"], ["a hole"]])
    assert found.mean == Quantity(1.0, n=1)
    assert found.left == ", 2 left out for a gap, 1 left out for a hole"
    assert compared([["a gap"]]).mean is None


def test_units_that_both_have_are_paired():
    a = {0: curve(2, 1, 9), 1: curve(2, 1, 9), 2: curve(8, 1, 9), 3: curve(9, 20, 30)}
    b = {0: curve(1, 1, 9), 1: curve(1, 1, 9), 3: curve(1, 1, 9)}
    found = paired(a, b)
    assert found is not None and found.n == 2
    assert (found.value, found.low, found.high) == pytest.approx((math.log(2),) * 3)
    assert paired({0: a[0]}, {1: b[1]}) is None


def test_words():
    assert [counted(n, "kinds of sites") for n in (1, 3)] == ["1 kind of site", "3 kinds of sites"]
    ratio = Quantity(math.log(1.5), math.log(1.2), math.log(2.0), 3)
    assert percent(as_change(ratio)) == "+50.0% (+20.0 to +100.0)"
    assert times(ratio) == "1.5 (1.2 to 2)"
    assert percent(as_change(Quantity(0.0))) == "+0.0%"
    assert (percent(None), times(None)) == ("unknown", "an unknown number of")


def test_an_interval_over_orders_of_magnitude_is_not_printed():
    ratio = Quantity(math.log(0.18), math.log(7e-7), math.log(48715.0), 2)
    nothing = "an interval over orders of magnitude, which tells nothing"
    assert times(ratio) == f"0.18 ({nothing})"
    assert percent(as_change(ratio)) == f"-82.0% ({nothing})"
    assert ratio_numbers(ratio) == [0.18, None, None]
    assert ratio_numbers(Quantity(0.0, -1.0, 1.0)) == [1.0, 0.367879, 2.71828]
