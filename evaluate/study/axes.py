"""Drawing that studies share: frontiers, values with bars, plain numbers on logarithmic axes.

Colours, fonts, sizes and the legend are in `page.svg`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from ...train.frontier import plain_log_axis
from ..page.svg import legend, look, power_of_ten
from .statistics import Quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMES = {
    "l0": "L0, mean active latents per token",
    "fvu": "FVU",
    "delta_loss": "Δ loss, nats per token",
}
"""Axis labels of figures."""


def draw_frontiers(
    axes: "Axes", curves: Mapping[str, Sequence[tuple[float, Quantity]]], metric: str
) -> None:
    """A metric against L0, both logarithmic, a curve for each label; bars are 95% intervals.

    If a value is 0 or below, the metric's axis is linear.
    """
    values = [value.value for points in curves.values() for _, value in points]
    for i, (label, points) in enumerate(curves.items()):
        draw_estimates(axes, points, label, i)
    plain_log_axis(axes, "x")
    axes.set_xlabel(f"{NAMES['l0']} (log scale)")
    name = NAMES.get(metric, metric)
    if values and min(values) > 0:
        plain_log_axis(axes, "y")
        name += " (log scale)"
    axes.set_ylabel(name)
    legend(axes)


def draw_estimates(
    axes: "Axes", points: Sequence[tuple[float, Quantity]], label: str | None, i: int
) -> None:
    """A line of values with their intervals."""
    low = [0.0 if e.low is None else max(0.0, e.value - e.low) for _, e in points]
    high = [0.0 if e.high is None else max(0.0, e.high - e.value) for _, e in points]
    axes.errorbar(
        [x for x, _ in points],
        [e.value for _, e in points],
        yerr=[low, high] if any([*low, *high]) else None,
        label=label,
        **look(i),
    )


def decades_axis(axes: "Axes", which: Literal["x", "y"]) -> None:
    """A logarithmic axis over many decades: powers of ten, at most seven."""
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = (math.log10(end) for end in sorted(axis.get_view_interval()))
    found = range(math.ceil(low), math.floor(high) + 1)
    shown = found[:: max(1, math.ceil(len(found) / 7))]
    axis.set_ticks([10.0**n for n in shown], [power_of_ten(n) for n in shown])
    axes.minorticks_off()
