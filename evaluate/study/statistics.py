"""The statistics of studies: intervals, differences, and the verdicts that follow from them.

Owns the tests. All are two-sided at 95%. A verdict is given only if the interval leaves out the
value of no effect; otherwise it is "cannot be told".
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

from .study import Verdict

Z = NormalDist().inv_cdf(0.975)

_T = (12.7062, 4.30265, 3.18245, 2.77645, 2.57058)
"""97.5% quantiles of Student's t for 1, 2, … 5 degrees of freedom, for which `t_quantile` is not
exact enough."""


@dataclass(frozen=True)
class Quantity:
    """A value with its 95% interval; `low` and `high` are None if it is not known."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None

    @property
    def half(self) -> float | None:
        """Half the interval's length."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2

    def __str__(self) -> str:
        shown = f"{self.value:.3g}"
        if self.low is None or self.high is None:
            return shown
        return f"{shown} [{self.low:.3g}, {self.high:.3g}]"

    def numbers(self) -> list[float | None]:
        """[value, low, high] with six significant digits."""
        return [None if v is None else float(f"{v:.6g}") for v in (self.value, self.low, self.high)]


DRAWS = 100_000
"""Draws in `chosen_range`: with as many, p is known within about 0.001."""

Curve = Sequence[tuple[float, Quantity]]
"""A frontier: (L0, value)."""


def mean_of(values: Sequence[float]) -> Quantity:
    """The mean over independent units (sites, seeds), with Student's t interval.

    A single unit gives no interval.
    """
    n, mean = len(values), fmean(values)
    if n < 2:
        return Quantity(mean, n=n)
    from ..measure.intervals import t_quantile  # loads torch

    quantile = _T[n - 2] if n - 2 < len(_T) else t_quantile(n - 1)
    half = quantile * stdev(values) / math.sqrt(n)
    return Quantity(mean, mean - half, mean + half, n)


def difference(a: Quantity, b: Quantity) -> Quantity:
    """a − b of two estimates, with their errors taken as independent.

    Errors of SAEs that are measured on the same sequences are correlated; the interval is then
    longer than it need be.
    """
    value = a.value - b.value
    if a.half is None or b.half is None:
        return Quantity(value)
    half = math.hypot(a.half, b.half)
    return Quantity(value, value - half, value + half)


def chosen_range(values: Sequence[Quantity]) -> tuple[Quantity, float | None]:
    """The highest value minus the lowest, with the interval of a studentised range.

    Highest and lowest are chosen by their values, and errors alone would make them differ. So the
    difference, in units of its standard error sqrt(s_i² + s_j²), is compared with that of draws in
    which all means are equal. The draws are normal with the values' own errors and a fixed seed.

    Returns:
        The difference with its 95% interval, and p, the share of draws that reach it. If a value
        has no interval, there is neither.
    """
    import numpy as np

    ordered = sorted(values, key=lambda one: one.value)
    gap, halves = ordered[-1].value - ordered[0].value, [one.half for one in ordered]
    if None in halves:
        return Quantity(gap), None
    errors = np.array(halves, dtype=float) / Z
    drawn = np.random.default_rng(0).standard_normal((DRAWS, len(ordered))) * errors
    of_highest, of_lowest = errors[drawn.argmax(1)], errors[drawn.argmin(1)]
    reached = np.ptp(drawn, axis=1) / np.hypot(of_highest, of_lowest)
    error = math.hypot(errors[0], errors[-1])
    reach = float(np.quantile(reached, 0.95)) * error
    p = (1 + int((reached * error >= gap).sum())) / (1 + DRAWS)
    return Quantity(gap, gap - reach, gap + reach), p


def share_of(k: float, n: int) -> Quantity:
    """k of n as a share with Wilson's interval."""
    p, z2 = k / n, Z * Z
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return Quantity(p, max(0.0, middle - half), min(1.0, middle + half), n)


def verdict_above(estimate: Quantity, threshold: float = 0.0) -> Verdict:
    """Whether a claim that the value is above the threshold holds, by its interval."""
    if estimate.low is None or estimate.high is None:
        return "cannot be told"
    if estimate.low > threshold:
        return "holds"
    return "does not hold" if estimate.high < threshold else "cannot be told"


def verdict_below(estimate: Quantity, threshold: float = 0.0) -> Verdict:
    """Whether a claim that the value is below the threshold holds, by its interval."""
    if estimate.low is None or estimate.high is None:
        return "cannot be told"
    if estimate.high < threshold:
        return "holds"
    return "does not hold" if estimate.low > threshold else "cannot be told"


def verdict_of_all(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict on a claim with several parts: it holds if all hold, and not if one does not."""
    if "does not hold" in verdicts:
        return "does not hold"
    held = bool(verdicts) and all(one == "holds" for one in verdicts)
    return "holds" if held else "cannot be told"


def at_l0(points: Curve, l0: float) -> Quantity | None:
    """A frontier's value at an L0, interpolated between its two nearest points.

    The interpolation is linear in log L0 and in the logarithm of the value (in the value itself,
    if one of the two is not above 0). The interval's half-length is interpolated linearly.

    Args:
        points: (L0, value); L0 above 0.

    Returns:
        The value; None if the L0 is outside the frontier.
    """
    ordered = sorted(points, key=lambda point: point[0])
    if len(ordered) == 1 and ordered[0][0] == l0:
        return ordered[0][1]
    for (a, left), (b, right) in itertools.pairwise(ordered):
        if a <= l0 <= b:
            share = 0.0 if a == b else math.log(l0 / a) / math.log(b / a)
            value = _between(left.value, right.value, share)
            if left.half is None or right.half is None:
                return Quantity(value)
            half = (1 - share) * left.half + share * right.half
            return Quantity(value, value - half, value + half)
    return None


def _between(a: float, b: float, share: float) -> float:
    """Interpolates, in logarithms if both values are above 0."""
    if a > 0 and b > 0:
        return math.exp((1 - share) * math.log(a) + share * math.log(b))
    return (1 - share) * a + share * b
