"""Two kinds of SAEs side by side: ratios at equal L0, paired by what both share, and their words.

Owns the pairing. Statistics of single numbers are `statistics`'.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from .statistics import Estimate, at_l0, mean_of

STOPS = 5
"""L0s at which two frontiers are compared, evenly in log L0 over what both reach."""

Curve = Sequence[tuple[float, Estimate]]
"""A frontier: (L0, value)."""


def log_ratio(a: Curve, b: Curve) -> float | None:
    """Mean log of a's value over b's at equal L0, over the L0s that both frontiers reach.

    Returns:
        None where they reach none together, or a value is not above 0.
    """
    reach = [[l0 for l0, _ in curve] for curve in (a, b)]
    if not all(reach):
        return None
    low, high = max(map(min, reach)), min(map(max, reach))
    if not 0 < low <= high:
        return None
    ratios = []
    for i in range(STOPS):
        l0 = min(high, low * (high / low) ** (i / (STOPS - 1)))
        left, right = at_l0(a, l0), at_l0(b, l0)
        if left is None or right is None or min(left.value, right.value) <= 0:
            return None
        ratios.append(math.log(left.value / right.value))
    return fmean(ratios)


def paired(a: Mapping[Any, Curve], b: Mapping[Any, Curve]) -> Estimate | None:
    """Mean over the units (seeds, layers) that both have of `log_ratio`, with Student's t interval;
    None if no unit can be compared."""
    ratios = [log_ratio(a[unit], b[unit]) for unit in a if unit in b]
    known = [ratio for ratio in ratios if ratio is not None]
    return mean_of(known) if known else None


def as_change(ratio: Estimate | None) -> Estimate | None:
    """A log ratio as a relative change: 0.1 for ten percent more."""
    if ratio is None:
        return None
    low, high = (None if v is None else math.expm1(v) for v in (ratio.low, ratio.high))
    return Estimate(math.expm1(ratio.value), low, high, ratio.n)


def percent(change: Estimate | None) -> str:
    """A relative change in words, with its interval."""
    if change is None:
        return "unknown"
    if change.low is None or change.high is None:
        return f"{100 * change.value:+.1f}%"
    return f"{100 * change.value:+.1f}% ({100 * change.low:+.1f} to {100 * change.high:+.1f})"


def numbers_of(estimate: Estimate | None) -> list[float | None] | None:
    """[value, low, high] for a reading's numbers."""
    return None if estimate is None else estimate.numbers()


def times(ratio: Estimate | None) -> str:
    """A log ratio in words, with its interval: 2 for twice as much."""
    if ratio is None:
        return "an unknown number of"
    shown = f"{math.exp(ratio.value):.3g}"
    if ratio.low is None or ratio.high is None:
        return shown
    return f"{shown} ({math.exp(ratio.low):.3g} to {math.exp(ratio.high):.3g})"
