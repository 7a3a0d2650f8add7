"""The report's plots, from the entries of evaluation JSONs.

Owns what is plotted against what, and on which axes. Axes of losses and shares start at 0; the
label of a logarithmic axis says so. `svg` owns the look.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...train.frontier import plain_log_axis
from .entries import (
    MAX_CURVES,
    Entry,
    interval,
    labels,
    rungs,
    short,
    slots,
    sparsity_label,
    spread,
    three_digits,
)
from .svg import draw, legend, look, power_of_ten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_NAMED_POINTS = 6
_MOST_DECADES = 5
"""Up to so many decades of an axis are all named; of more, every second or third."""
_L0 = "L0, active latents per token"


def frontier(entries: Sequence[Entry], metric: str, name: str) -> str | None:
    """A metric against L0; None if no entry has the metric."""
    plot = frontier_plot(entries, metric, name)
    return None if plot is None else draw(plot, f"{name} against L0")


def frontier_plot(
    entries: Sequence[Entry], metric: str, name: str
) -> Callable[["Axes"], None] | None:
    """A function that draws a metric against L0, one line per slot; bars are known 95% intervals.

    None if no entry has the metric.
    """
    known = [entry for entry in entries if entry.get(metric) is not None]
    if not known:
        return None

    def plot(axes: "Axes") -> None:
        found = slots(known)
        for i, (one, points) in enumerate(found):
            bars = [_bar(e, metric) for e in points]
            axes.errorbar(
                [e["l0"] for e in points],
                [e[metric] for e in points],
                yerr=np.transpose(bars) if np.any(bars) else None,
                label=one,
                **look(i),
            )
        named = len(found) == 1 and len(known) <= _MAX_NAMED_POINTS
        _l0_axis(axes, [entry["l0"] for entry in known], named)
        axes.set_ylabel(name)
        _from_zero(axes, [e[metric] - _bar(e, metric)[0] for e in known], 0.14 if named else 0.05)
        if named:
            _annotate(axes, known, metric)
        if len(found) > 1:
            legend(axes)

    return plot


def width_ladder(entries: Sequence[Entry], metric: str, name: str) -> str:
    """A metric against width, one line per site and λ."""

    def plot(axes: "Axes") -> None:
        ladders = rungs(entries)
        sites, values = {where for where, _ in ladders}, []
        for i, ((where, given), points) in enumerate(sorted(ladders.items())[:MAX_CURVES]):
            values += [e[metric] for e in points]
            axes.plot(
                [math.log2(e["d_sae"]) for e in points],
                [e[metric] for e in points],
                label=", ".join([short(where)] * (len(sites) > 1) + [f"λ {three_digits(given)}"]),
                **look(i),
            )
        _whole_numbers(axes, 6)
        axes.set_xlabel("width, log₂ of the number of latents")
        axes.set_ylabel(name)
        _from_zero(axes, values)
        legend(axes)

    return draw(plot, f"{name} against width")


def firing(entries: Sequence[Entry]) -> str:
    """Histogram of log10 firing frequency, in shares of all latents, so that dead ones are missing
    from the area.
    """

    def plot(axes: "Axes") -> None:
        shown = spread(entries)
        for i, (entry, name) in enumerate(zip(shown, labels(shown), strict=True)):
            summary = entry["firing"]
            share = np.asarray(summary["histogram"]) / entry["d_sae"]
            style = {key: look(i)[key] for key in ("color", "linestyle")}
            axes.stairs(share, summary["log10_edges"], label=name, linewidth=1.8, **style)
        lowest = min(_lowest_edge(entry["firing"]) for entry in entries)
        axes.set_xlim(lowest - 0.2, 0)
        axes.set_ylim(bottom=0)
        first = math.ceil(lowest - 0.2)
        ticks = range(0, first - 1, -max(1, -(first // _MOST_DECADES)))
        axes.set_xticks(list(ticks), [power_of_ten(t) for t in ticks])
        axes.set_xlabel("firing frequency, share of tokens (log scale)")
        axes.set_ylabel("share of latents")
        legend(axes)

    return draw(plot, "Histogram of firing frequencies")


def training(entries: Sequence[Entry], metric: str, name: str, log: bool = False) -> str | None:
    """A line of metrics.jsonl against the step; None if no entry has it."""
    known = [e for e in spread(entries) if metric in (e.get("training") or {}).get("metrics", {})]
    if not known:
        return None

    def plot(axes: "Axes") -> None:
        for i, (entry, shown) in enumerate(zip(known, labels(known), strict=True)):
            metrics = entry["training"]["metrics"]
            # Not clipped, or the axis would hide a curve along 0. A logarithmic axis has no place
            # for 0, the L0 of an SAE without an active latent.
            values = [v if v > 0 or not log else math.nan for v in metrics[metric]]
            style = look(i, every=len(values))
            axes.plot(metrics["step"], values, label=shown, clip_on=False, **style)
        axes.set_xlabel("training step")
        axes.set_ylabel(f"{name} (log scale)" if log else name)
        if log:
            plain_log_axis(axes, "y")
        else:
            axes.set_ylim(0, max(0.05, axes.get_ylim()[1]))
        axes.set_xlim(left=0)
        _thousands(axes)
        legend(axes)

    return draw(plot, f"{name} during training")


def by_position(entries: Sequence[Entry], counts: Sequence[float], curve: str, name: str) -> str:
    """A curve over the position in the sequence, as means over bins that widen with the
    position.
    """

    def plot(axes: "Axes") -> None:
        lowest, shown = 0.0, spread(entries)
        for i, (entry, one) in enumerate(zip(shown, labels(shown), strict=True)):
            positions, means = position_bins(entry["by_position"][curve], counts)
            lowest = min([lowest, *means])
            axes.plot(positions, means, label=one, **look(i, every=len(means)))
        plain_log_axis(axes, "x")
        axes.set_xlabel("position in the sequence, from 0 (log scale)")
        axes.set_ylabel(name)
        _from_zero(axes, [lowest])
        legend(axes)

    return draw(plot, f"{name} by position")


def position_bins(
    values: Sequence[float | None], counts: Sequence[float]
) -> tuple[list[float], list[float]]:
    """Weighted means over bins of positions that widen to about an eighth of the position.

    A single position has few tokens and is noisy, but the first ones, which differ much, have bins
    of their own: [1, 2), [2, 3), … Position 0 (BOS) and positions without a value are left out.

    Returns:
        The bins' mean positions and their means.
    """
    positions, means, start = [], [], 1
    while start < len(values):
        stop = min(len(values), start + max(1, start // 8))
        inside = [p for p in range(start, stop) if values[p] is not None and counts[p] > 0]
        weight = sum(counts[p] for p in inside)
        if inside:
            positions.append(sum(inside) / len(inside))
            means.append(sum((values[p] or 0.0) * counts[p] for p in inside) / weight)
        start = stop
    return positions, means


def _annotate(axes: "Axes", points: Sequence[Entry], metric: str) -> None:
    """Writes λ, or the wanted L0, beside the points."""
    for entry in points:
        at = (entry["l0"], entry[metric])
        axes.annotate(sparsity_label(entry), at, xytext=(6, 6), textcoords="offset points")


def _l0_axis(axes: "Axes", values: Sequence[float], named: bool) -> None:
    """The L0 axis: from 0, or logarithmic if L0 spans more than a decade.

    There is space on the right for the last point's name.
    """
    axes.set_xlabel(_L0)
    low, high = min(values), max(values)
    if low > 0 and high / low > 10:
        margin = (high / low) ** (0.22 if named else 0.05)
        axes.set_xlim(low / (high / low) ** 0.05, high * margin)
        plain_log_axis(axes, "x")
        axes.set_xlabel(f"{_L0} (log scale)")
    else:
        axes.set_xlim(left=0, right=(1.24 if named else 1.08) * high or 1)


def _thousands(axes: "Axes") -> None:
    """Steps with thousands separators, few enough to fit side by side."""
    _whole_numbers(axes, 4)
    axes.xaxis.set_major_formatter(lambda value, _position: f"{value:,.0f}")


def _whole_numbers(axes: "Axes", most: int) -> None:
    """Whole numbers along the x axis, at most `most` steps."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(most, integer=True))


def _from_zero(axes: "Axes", lowest: Sequence[float], above: float = 0.05) -> None:
    """The y axis from 0, or from below the `lowest` ends of points and bars if one is negative.

    There is space above for the topmost points' names.
    """
    low, high = axes.get_ylim()
    span = high - low
    least = min(lowest)
    axes.set_ylim(bottom=0.0 if least >= 0 else least - 0.05 * span, top=high + above * span)


def _bar(entry: Entry, metric: str) -> tuple[float, float]:
    """How far a point's bar goes down and up; (0, 0) if its interval is not known."""
    found = interval(entry, metric)
    if found is None:
        return 0.0, 0.0
    return max(0.0, entry[metric] - found[0]), max(0.0, found[1] - entry[metric])


def _lowest_edge(summary: dict[str, Any]) -> float:
    """Left edge, log10, of the first bin that is not empty."""
    filled = np.flatnonzero(summary["histogram"])
    return summary["log10_edges"][filled[0]] if len(filled) else -1.0
