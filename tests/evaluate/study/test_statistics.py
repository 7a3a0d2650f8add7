"""The tests behind verdicts, on numbers whose answers are known."""

import math
from statistics import stdev

import pytest

from scopeworks.evaluate.study.statistics import (
    Quantity,
    at_l0,
    chosen_range,
    difference,
    mean_of,
    verdict_above,
    verdict_below,
    verdict_of_all,
)


@pytest.mark.parametrize(
    ("low", "high", "below", "above"),
    [
        (-2.0, -1.0, "holds", "does not hold"),
        (1.0, 2.0, "does not hold", "holds"),
        (-1.0, 1.0, "cannot be told", "cannot be told"),
        (None, None, "cannot be told", "cannot be told"),
    ],
)
def test_a_verdict_needs_an_interval_on_one_side(low, high, below, above):
    estimate = Quantity(-5.0, low, high)
    assert verdict_below(estimate) == below
    assert verdict_above(estimate) == above


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        (["holds", "holds"], "holds"),
        (["holds", "cannot be told"], "cannot be told"),
        (["cannot be told", "does not hold"], "does not hold"),
        ([], "cannot be told"),
    ],
)
def test_a_claim_of_parts_holds_if_all_do(parts, whole):
    assert verdict_of_all(parts) == whole


def test_mean_of_three_units_has_students_interval():
    found = mean_of([1.0, 2.0, 3.0])
    assert found.value == 2.0 and found.n == 3
    assert found.half == pytest.approx(4.30265 / math.sqrt(3))
    assert mean_of([1.0]) == Quantity(1.0, n=1)


@pytest.mark.parametrize(
    ("n", "quantile"), [(2, 12.7062), (6, 2.5706), (7, 2.4469), (31, 2.0423), (1001, 1.9623)]
)
def test_quantiles_of_students_t(n, quantile):
    values = [float(i % 2) for i in range(n)]
    half = mean_of(values).half
    assert half == pytest.approx(quantile * stdev(values) / math.sqrt(n), rel=1e-4)


def test_difference_adds_errors_in_squares():
    found = difference(Quantity(5.0, 2.0, 8.0), Quantity(1.0, -3.0, 5.0))
    assert (found.value, found.low, found.high) == (4.0, -1.0, 9.0)
    assert difference(Quantity(5.0), Quantity(1.0, 0.0, 2.0)) == Quantity(4.0)


def test_a_chosen_range_is_held_against_what_errors_alone_give():
    """95% of Tukey's studentised range of 3 and of 2 normal values, over √2."""
    for k, quantile in ((2, 1.960), (3, 3.314 / math.sqrt(2))):
        found, _ = chosen_range([Quantity(float(i), i - 1.959964, i + 1.959964) for i in range(k)])
        assert found.value == k - 1
        assert found.half == pytest.approx(quantile * math.sqrt(2), rel=0.01)


def test_p_and_interval_of_a_chosen_range_agree():
    for top in (2.2, 4.5):
        gap, p = chosen_range([Quantity(v, v - 1.96, v + 1.96) for v in (0.0, top / 2, top)])
        assert p is not None and gap.low is not None and (p < 0.05) == (gap.low > 0)
    assert chosen_range([Quantity(0.0), Quantity(2.0, 1.0, 3.0)]) == (Quantity(2.0), None)


def test_a_frontier_is_read_between_its_points_in_logarithms():
    points = [(10.0, Quantity(0.4, 0.3, 0.5)), (1000.0, Quantity(0.1, 0.05, 0.15))]
    found = at_l0(points, 100.0)
    assert found is not None and found.value == pytest.approx(0.2)
    assert found.half == pytest.approx(0.075)
    assert at_l0(points, 9.9) is None and at_l0(points, 1001.0) is None
    end = at_l0(points, 1000.0)
    assert end is not None and end.value == pytest.approx(0.1) and end.low == pytest.approx(0.05)


def test_a_frontier_with_a_splice_that_helps_is_read_linearly():
    found = at_l0([(1.0, Quantity(0.2)), (100.0, Quantity(-0.2))], 10.0)
    assert found is not None and found.value == pytest.approx(0.0)


def test_a_single_point_is_a_frontier_of_one_l0():
    point = [(10.0, Quantity(0.4, 0.3, 0.5))]
    assert at_l0(point, 10.0) == point[0][1]
    assert at_l0(point, 10.1) is None and at_l0([], 10.0) is None
