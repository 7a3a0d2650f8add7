"""Krippendorff's alpha: a published example, a slow twin, and where it is not defined."""

import numpy as np
import pytest

from scopeworks.evaluate.latents.rate.agreement import agreement
from scopeworks.tests.reference.krippendorff import alpha as slow_alpha

PUBLISHED = (
    "1233214 12...".replace(" ", ""),
    "123322412 5.3".replace(" ", ""),
    ".33323422 51.".replace(" ", ""),
    "123324412 51.".replace(" ", ""),
)
"""Four observers, twelve units ("Computing Krippendorff's Alpha-Reliability", 2011, section D),
whose ordinal alpha is given as 0.815."""


def counts_of(units: list[list[int]], size: int) -> np.ndarray:
    return np.array([[unit.count(value) for value in range(size)] for unit in units])


def test_published_example():
    units = [[int(c) - 1 for c in column if c != "."] for column in zip(*PUBLISHED, strict=True)]
    found = agreement(counts_of(units, 5))
    assert found.alpha == pytest.approx(0.815, abs=5e-4)
    assert found.n == 11  # one unit has a single value


def test_equals_the_slow_twin():
    rng = np.random.default_rng(3)
    for _ in range(20):
        truth = rng.integers(0, 3, 30)
        units = [
            [int(np.clip(value + rng.integers(-1, 2), 0, 2)) for _ in range(rng.integers(0, 5))]
            for value in truth
        ]
        assert agreement(counts_of(units, 3)).alpha == pytest.approx(slow_alpha(units), abs=1e-12)


def test_interval_holds_the_value_and_narrows_with_latents():
    rng = np.random.default_rng(4)

    def found(n: int):
        truth = rng.integers(0, 3, n)
        noise = rng.random((n, 3)) < 0.2
        units = [
            [2 - int(t) if bad else int(t) for bad in row]
            for t, row in zip(truth, noise, strict=True)
        ]
        return agreement(counts_of(units, 3))

    widths = []
    for one in (found(20), found(500)):
        assert one.low is not None and one.high is not None and one.alpha is not None
        assert one.low < one.alpha < one.high
        widths.append(one.high - one.low)
    assert widths[1] < widths[0] / 2


def test_agreeing_raters_have_alpha_one():
    found = agreement(np.array([[2, 0, 0], [0, 2, 0], [0, 0, 2]] * 5))
    assert (found.alpha, found.low, found.high) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("counts", "n"), [([[1, 0, 0], [0, 1, 0]], 0), ([[2, 0, 0], [3, 0, 0]], 2), ([], 0)]
)
def test_not_defined_without_pairs_or_differences(counts: list[list[int]], n: int):
    found = agreement(np.array(counts, dtype=int).reshape(-1, 3))
    assert (found.alpha, found.low, found.high, found.n) == (None, None, None, n)


def test_no_interval_of_few_latents():
    found = agreement(np.array([[2, 0, 0], [1, 1, 0], [0, 0, 2]]))
    assert found.alpha is not None and found.low is None
