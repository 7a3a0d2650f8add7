"""Storing: is keeping activations cheaper than making them again? (Section 3.3.2.)

Owns the arithmetic: the cost of keeping bytes (a price per terabyte and month) against the cost of
one pass of the model (a price per hour). The caller gives sizes, hours and prices. Prices are
ranges, and so is everything computed from them. The claim is read for the report's own case.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ....train.frontier import plain_log_axis
from ...page.svg import legend, look
from ...study.statistics import Quantity
from ...study.study import (
    Documents,
    Plot,
    Point,
    Reading,
    Study,
    Verdict,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DAYS = (1, 3, 10, 30, 100, 300)
CLAIMED_DAYS = (10, 100)
CLAIMED_TIMES = 10.0
DAYS_PER_MONTH = 30.4
Range = tuple[float, float]


def points(documents: Documents) -> list[Point]:
    """Costs for every case and number of days.

    The cost of keeping and of one pass, how many times cheaper keeping is, how many passes it
    costs, and from how many SAEs on harvesting once costs less than a pass for each.
    """
    found = []
    for case in _cases(documents):
        again = product(case["pass_hours"], case["device_hour"])
        month = product(case["bytes"] / 1e12, case["tb_month"])
        for days in DAYS:
            keep = product(days / DAYS_PER_MONTH, month)
            times = ratio(again, keep)
            saes = [1 + math.floor(1 + 1 / value) for value in (times[1], middle(times), times[0])]
            values = {
                "keep": (keep[0], middle(keep), keep[1]),
                "regenerate": (again[0], middle(again), again[1]),
                "times_cheaper": (times[0], middle(times), times[1]),
                "passes": (1 / times[1], 1 / middle(times), 1 / times[0]),
                "saes": tuple(map(float, saes)),
                "tb_month_at_claim": _price_at_claim(case, again, days),
            }
            for metric, (low, value, high) in values.items():
                where = {"metric": metric, "case": case["name"], "days": days}
                found.append(Point(where, value, low, high))
    return found


def read(points: list[Point]) -> Reading:
    """Whether keeping the report's activations for 10 to 100 days costs a tenth of one pass."""
    cases = list(dict.fromkeys(point["case"] for point in points))
    first = cases[0]
    own = {days: _estimate(points, "times_cheaper", first, days) for days in DAYS}
    needed = [_estimate(points, "tb_month_at_claim", first, days) for days in CLAIMED_DAYS]
    short, long = (own[days] for days in CLAIMED_DAYS)
    kept = [_money(_estimate(points, "keep", first, days)) for days in CLAIMED_DAYS]
    saes = [f"{_saes(points, name)} ({name})" for name in cases]
    return Reading(
        _verdict(short, long),
        f"{first}: a pass of the model costs {_money(_estimate(points, 'regenerate', first, 10))}, "
        f"keeping {kept[0]} for 10 days and {kept[1]} for 100: a pass costs {_times(short)} and "
        f"{_times(long)} times as much, where the claim is ten. For that a terabyte would have to "
        f"cost ${needed[1].value:.2g} to ${needed[0].value:.2g} a month. Kept for 30 days, "
        f"harvesting once costs less than one pass per SAE from this number of SAEs on: "
        f"{'; '.join(saes)}.",
        "ranges of list prices; the claim holds if keeping for 100 days is ten times cheaper at "
        "the worst prices, and does not if keeping for 10 days is not at the best",
        {
            "times_cheaper": {str(days): one.numbers() for days, one in own.items()},
            "tb_month_needed": [one.numbers()[0] for one in needed],
            "saes_at_30_days": {
                name: _estimate(points, "saes", name, 30).numbers() for name in cases
            },
        },
    )


def plots(points: list[Point]) -> list[Plot]:
    """Cost against days, and the number of SAEs from which harvesting once wins."""
    cases = list(dict.fromkeys(point["case"] for point in points))

    def costs(axes: "Axes") -> None:
        for i, name in enumerate(cases):
            _band(axes, points, "passes", name, i)
        for value, text in ((1.0, "as much as a pass"), (1 / CLAIMED_TIMES, "the claim")):
            axes.axhline(value, color="#888888", linewidth=0.8)
            axes.annotate(text, (DAYS[-1], value), ha="right", va="bottom", fontsize="small")
        axes.set(xscale="log", yscale="log")
        ticks = [10.0**exponent for exponent in range(-3, 4)]
        low, high = axes.get_ylim()
        shown = [tick for tick in ticks if low <= tick <= high]
        axes.set_yticks(shown, [f"{tick:g}" for tick in shown])
        _days(axes)
        axes.set_ylabel("cost of keeping, in passes (log scale)")
        legend(axes)

    def saes(axes: "Axes") -> None:
        for i, name in enumerate(cases):
            _band(axes, points, "saes", name, i)
        axes.set_xscale("log")
        plain_log_axis(axes, "y")
        _days(axes)
        axes.set_ylabel("SAEs (log scale)")
        legend(axes)

    return [
        Plot(
            "costs",
            "The cost of keeping activations by days, in passes of the model. Bands: ranges of "
            "prices.",
            costs,
        ),
        Plot(
            "saes",
            "The number of SAEs from which harvesting once costs less than one pass per SAE. "
            "Bands: ranges of prices.",
            saes,
        ),
    ]


def product(value: float, price: Sequence[float]) -> Range:
    """A quantity at a range of prices."""
    return value * price[0], value * price[1]


def ratio(a: Range, b: Range) -> Range:
    """The range of a / b."""
    return a[0] / b[1], a[1] / b[0]


def middle(values: Range) -> float:
    """The geometric middle."""
    return math.sqrt(values[0] * values[1])


def _cases(documents: Documents) -> list[dict[str, Any]]:
    """The cases that the caller gives, the report's first."""
    return [
        case
        for found in documents.values()
        for document in found
        for case in document["storing"]["cases"]
    ]


def _price_at_claim(case: dict[str, Any], again: Range, days: int) -> tuple[float, float, float]:
    """The price per terabyte and month at which the claim holds, at the pass's low, middle and
    high price."""
    terabyte_months = case["bytes"] / 1e12 * days / DAYS_PER_MONTH
    low, mid, high = (
        price / CLAIMED_TIMES / terabyte_months for price in (again[0], middle(again), again[1])
    )
    return low, mid, high


def _estimate(points: Sequence[Point], metric: str, case: str, days: int) -> Quantity:
    """One point's value and range."""
    key = (metric, case, days)
    point = next(p for p in points if (p["metric"], p["case"], p["days"]) == key)
    assert point.value is not None
    return Quantity(point.value, point.low, point.high)


def _saes(points: Sequence[Point], case: str) -> str:
    """The number of SAEs at 30 days, with its range."""
    one = _estimate(points, "saes", case, 30)
    if one.low is None or one.high is None or one.low == one.high:
        return f"{one.value:,.0f}"
    return f"{one.value:,.0f}, between {one.low:,.0f} and {one.high:,.0f}"


def _money(one: Quantity) -> str:
    """US dollars with their range."""
    low, value, high = (_number(v) for v in (one.low, one.value, one.high))
    return f"${value} ({low} to {high})"


def _number(value: float | None) -> str:
    """Whole dollars from ten on, two digits below."""
    shown = value or 0.0
    return f"{shown:,.0f}" if shown >= 10 else f"{shown:.2g}"


def _times(one: Quantity) -> str:
    """A ratio with its range."""
    return f"{one.value:.2g} ({one.low or 0:.2g} to {one.high or 0:.2g})"


def _verdict(short: Quantity, long: Quantity) -> Verdict:
    """By the ranges at 10 and at 100 days."""
    if long.low is not None and long.low >= CLAIMED_TIMES:
        return "holds"
    never = short.high is not None and short.high < CLAIMED_TIMES
    return "does not hold" if never else "cannot be told"


def _band(axes: "Axes", points: Sequence[Point], metric: str, case: str, number: int) -> None:
    """A line over days with the range of prices around it."""
    own = [_estimate(points, metric, case, days) for days in DAYS]
    style = look(number)
    axes.plot(DAYS, [one.value for one in own], label=case, **style)
    low, high = [one.low or one.value for one in own], [one.high or one.value for one in own]
    axes.fill_between(DAYS, low, high, color=style["color"], alpha=0.15, linewidth=0)


def _days(axes: "Axes") -> None:
    """Days as plain numbers."""
    axes.set_xticks(DAYS, [str(days) for days in DAYS])
    axes.minorticks_off()
    axes.set_xlabel("days kept (log scale)")


STUDY = Study(
    name="storing",
    figures=("Section 3.3.2",),
    title="Is keeping activations cheaper than making them again?",
    claim="Keeping activations for 10 to 100 days costs a tenth or less of one more model pass.",
    minutes=2,
    variants=lambda _scene: [],
    points=points,
    read=read,
    plots=plots,
)
