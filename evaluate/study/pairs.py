"""SAEs of two kinds compared: ratios at equal L0, and their words.

Owns the comparison over the L0s that frontiers share, unit by unit (seeds, sites, layers), and the
count of those that could not be compared. Statistics of single numbers are in `statistics`.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from .statistics import Curve, Quantity, at_l0, mean_of

STOPS = 5
"""Number of L0s at which frontiers are compared, evenly in log L0 over what all reach."""
TELLING = 100.0
"""A ratio's interval whose ends are more than so many times apart is not printed."""
_TELLS_NOTHING = "an interval over orders of magnitude, which tells nothing"
APART, NOT_ABOVE = "no L0 in common", "a value that is not above 0"

Stops = Sequence[float] | str
"""A number at each of the L0s, sparsest first; or the reason that there is none."""


@dataclass(frozen=True)
class Comparison:
    """Numbers of several units at equal L0.

    Attributes:
        mean: over the L0s and the units, with Student's t interval over the units; None if no
            unit could be compared.
        at: the mean over the units at each L0, sparsest first.
        left_out: how many comparisons could not be made, by the reason.
    """

    mean: Quantity | None
    at: Sequence[Quantity]
    left_out: Mapping[str, int]

    @property
    def turned(self) -> dict[str, Quantity]:
        """`sparsest`, `densest`: those of the two end L0s where the sign is not the mean's."""
        if self.mean is None:
            return {}
        ends = {"sparsest": self.at[0], "densest": self.at[-1]}
        return {name: one for name, one in ends.items() if one.value * self.mean.value < 0}

    def numbers(self) -> dict[str, Any]:
        """Mean, both ends and what was left out, as a reading's `numbers`."""
        ends = {"sparsest": self.at[0], "densest": self.at[-1]} if self.at else {}
        shown = {name: one.numbers() for name, one in ends.items()}
        return {"mean": numbers_of(self.mean), **shown, "left_out": dict(self.left_out)}

    @property
    def left(self) -> str:
        """What was left out, in words that follow the number of units."""
        return "".join(f", {n} left out for {why}" for why, n in self.left_out.items())


def counted(n: int | None, units: str) -> str:
    """`3 kinds of sites`, `1 kind of site`."""
    return f"1 {units.replace('s ', ' ').removesuffix('s')}" if n == 1 else f"{n or 0} {units}"


def stops(*curves: Curve) -> list[float]:
    """The L0s at which frontiers are compared; none if they have no L0 in common."""
    reach = [[l0 for l0, _ in curve] for curve in curves]
    if not reach or not all(reach):
        return []
    low, high = max(map(min, reach)), min(map(max, reach))
    if not 0 < low <= high:
        return []
    return [min(high, low * (high / low) ** (i / (STOPS - 1))) for i in range(STOPS)]


def log_ratios(a: Curve, b: Curve) -> Stops:
    """log of a's value over b's at each of the L0s that both frontiers reach."""
    found = []
    for l0 in stops(a, b):
        left, right = at_l0(a, l0), at_l0(b, l0)
        assert left is not None and right is not None
        if min(left.value, right.value) <= 0:
            return NOT_ABOVE
        found.append(math.log(left.value / right.value))
    return found or APART


def log_ratio(a: Curve, b: Curve) -> float | None:
    """The mean of `log_ratios`; None if there are none."""
    found = log_ratios(a, b)
    return None if isinstance(found, str) else fmean(found)


def compared(units: Iterable[Sequence[Stops]]) -> Comparison:
    """The comparison of several units; those of one unit are averaged at each of their L0s."""
    means: list[list[float]] = []
    left_out: Counter[str] = Counter()
    for unit in units:
        known = [one for one in unit if not isinstance(one, str)]
        left_out.update(one for one in unit if isinstance(one, str))
        if known:
            means.append([fmean(values) for values in zip(*known, strict=True)])
    if not means:
        return Comparison(None, (), left_out)
    at = [mean_of(values) for values in zip(*means, strict=True)]
    return Comparison(mean_of([fmean(values) for values in means]), at, left_out)


def paired(a: Mapping[Any, Curve], b: Mapping[Any, Curve]) -> Quantity | None:
    """The mean of `log_ratio` over the units (seeds, layers) that both have, with a t interval.

    None if no unit can be compared.
    """
    return compared([log_ratios(a[unit], b[unit])] for unit in a if unit in b).mean


def as_change(ratio: Quantity | None) -> Quantity | None:
    """A log ratio as a relative change: 0.1 for ten percent more."""
    if ratio is None:
        return None
    low, high = (None if v is None else math.expm1(v) for v in (ratio.low, ratio.high))
    return Quantity(math.expm1(ratio.value), low, high, ratio.n)


def percent(change: Quantity | None) -> str:
    """A relative change in words, with its interval."""
    if change is None:
        return "unknown"
    if change.low is None or change.high is None:
        return f"{100 * change.value:+.1f}%"
    if (1 + change.high) > TELLING * (1 + change.low):
        return f"{100 * change.value:+.1f}% ({_TELLS_NOTHING})"
    return f"{100 * change.value:+.1f}% ({100 * change.low:+.1f} to {100 * change.high:+.1f})"


def numbers_of(estimate: Quantity | None) -> list[float | None] | None:
    """[value, low, high] for a reading's numbers."""
    return None if estimate is None else estimate.numbers()


def ratio_numbers(ratio: Quantity | None) -> list[float | None] | None:
    """A log ratio as [ratio, low, high]; the ends are None if more than TELLING times apart."""
    if ratio is None:
        return None
    found = Quantity(math.exp(ratio.value)).numbers()
    if ratio.low is None or ratio.high is None or ratio.high - ratio.low > math.log(TELLING):
        return found
    return Quantity(math.exp(ratio.value), math.exp(ratio.low), math.exp(ratio.high)).numbers()


def times(ratio: Quantity | None) -> str:
    """A log ratio in words, with its interval: 2 for twice as much."""
    if ratio is None:
        return "an unknown number of"
    shown = f"{math.exp(ratio.value):.3g}"
    if ratio.low is None or ratio.high is None:
        return shown
    if ratio.high - ratio.low > math.log(TELLING):
        return f"{shown} ({_TELLS_NOTHING})"
    return f"{shown} ({math.exp(ratio.low):.3g} to {math.exp(ratio.high):.3g})"
