"""The report's plots, from the entries of evaluation JSONs.

Owns what is plotted against what and on which axes. Axes of losses and shares start at 0; a
logarithmic one says so. The look is `svg`'s.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...train.frontier import plain_log_axis
from .svg import COLOURS, LINES, MARKERS, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Entry = dict[str, Any]
MAX_CURVES = len(COLOURS)
"""Curves in one plot; of more SAEs, some spread evenly over L0 are shown."""


def slot(entry: Entry) -> str:
    """What the points of one frontier have in common."""
    where = entry["site"]
    if entry["target_site"] != where:
        where += f" → {entry['target_site']}"
    return f"{where}, width {entry['d_sae']:,}"


def sparsity(entry: Entry) -> float | None:
    """λ at the end of the SAE's training, where known."""
    return (entry.get("config") or {}).get("sparsity")


def rungs(entries: Sequence[Entry]) -> dict[tuple[str, float], list[Entry]]:
    """The width ladders: SAEs of several widths at one site and λ, by (site, λ), narrowest first.

    SAEs that were steered to a target L0 stand on none: their λ is a result.
    """
    ladders: dict[tuple[str, float], list[Entry]] = {}
    for entry in sorted(entries, key=lambda e: e["d_sae"]):
        settings = (entry.get("training") or {}).get("settings") or {}
        price = sparsity(entry)
        if price is not None and settings.get("target_l0") is None:
            where = slot(entry).partition(", width")[0]
            ladders.setdefault((where, price), []).append(entry)
    return {key: some for key, some in ladders.items() if len({e["d_sae"] for e in some}) > 1}


def label(entry: Entry) -> str:
    """An SAE in a legend."""
    price = sparsity(entry)
    if price is not None:
        return f"λ {price:.3g}, L0 {entry['l0']:.0f}"
    return _short(entry["name"])


def spread(entries: Sequence[Entry]) -> list[Entry]:
    """At most MAX_CURVES of the entries, evenly over the ranks of L0, the sparsest and the densest
    among them.
    """
    ordered = sorted(entries, key=lambda entry: entry["l0"])
    if len(ordered) <= MAX_CURVES:
        return ordered
    picks = np.linspace(0, len(ordered) - 1, MAX_CURVES).round().astype(int)
    return [ordered[i] for i in picks]


def frontier(entries: Sequence[Entry], metric: str, name: str) -> str | None:
    """A metric against L0; None if no entry has the metric."""
    plot = frontier_plot(entries, metric, name)
    return None if plot is None else draw(plot, f"{name} against L0")


def frontier_plot(
    entries: Sequence[Entry], metric: str, name: str
) -> Callable[["Axes"], None] | None:
    """What draws a metric against L0, one line per slot; bars are two standard errors where they
    are known. None if no entry has the metric."""
    known = [entry for entry in entries if entry[metric] is not None]
    if not known:
        return None

    def plot(axes: "Axes") -> None:
        slots = sorted({slot(entry) for entry in known})
        for i, one in enumerate(slots):
            points = sorted((e for e in known if slot(e) == one), key=lambda e: e["l0"])
            errors = [_error(e, metric) for e in points]
            axes.errorbar(
                [e["l0"] for e in points],
                [e[metric] for e in points],
                yerr=errors if any(errors) else None,
                label=_short(one),
                **_look(i, marker=True),
            )
            if len(known) <= 12:
                _annotate(axes, points, metric)
        _l0_axis(axes, [entry["l0"] for entry in known])
        axes.set_ylabel(name)
        _from_zero(axes, [e[metric] - _error(e, metric) for e in known])
        if len(slots) > 1:
            _legend(axes)

    return plot


def width_ladder(entries: Sequence[Entry], metric: str, name: str) -> str:
    """A metric against width, one line per site and λ."""

    def plot(axes: "Axes") -> None:
        ladders = rungs(entries)
        sites, values = {where for where, _ in ladders}, []
        for i, ((where, price), points) in enumerate(sorted(ladders.items())[:MAX_CURVES]):
            values += [e[metric] for e in points]
            axes.plot(
                [math.log2(e["d_sae"]) for e in points],
                [e[metric] for e in points],
                label=f"λ {price:.3g}" if len(sites) == 1 else _short(f"{where}, λ {price:.3g}"),
                **_look(i, marker=True),
            )
        axes.set_xlabel("width, log₂ of the number of latents")
        axes.set_ylabel(name)
        _from_zero(axes, values)
        _legend(axes)

    return draw(plot, f"{name} against width")


def firing(entries: Sequence[Entry]) -> str:
    """Histogram of log10 firing frequency, as shares of all latents, so that dead ones are missing
    from the area.
    """

    def plot(axes: "Axes") -> None:
        for i, entry in enumerate(spread(entries)):
            summary = entry["firing"]
            share = np.asarray(summary["histogram"]) / entry["d_sae"]
            axes.stairs(share, summary["log10_edges"], label=label(entry), **_look(i, marker=False))
        lowest = min(_lowest_edge(entry["firing"]) for entry in entries)
        axes.set_xlim(lowest - 0.2, 0)
        axes.set_ylim(bottom=0)
        ticks = range(math.ceil(lowest - 0.2), 1)
        axes.set_xticks(list(ticks), [_power_of_ten(t) for t in ticks])
        axes.set_xlabel("firing frequency, share of tokens (log scale)")
        axes.set_ylabel("share of latents")
        _legend(axes)

    return draw(plot, "Histogram of firing frequencies")


def training(entries: Sequence[Entry], metric: str, name: str, log: bool = False) -> str | None:
    """A line of metrics.jsonl against the step; None if no entry has it."""
    known = [e for e in spread(entries) if metric in (e.get("training") or {}).get("metrics", {})]
    if not known:
        return None

    def plot(axes: "Axes") -> None:
        for i, entry in enumerate(known):
            metrics = entry["training"]["metrics"]
            # Not clipped, or a curve along 0 would vanish under the axis. A logarithmic one has no
            # place for 0, which an SAE without an active latent has as its L0.
            values = [v if v > 0 or not log else math.nan for v in metrics[metric]]
            axes.plot(
                metrics["step"],
                values,
                label=label(entry),
                clip_on=False,
                **_look(i, marker=False),
            )
        axes.set_xlabel("training step")
        axes.set_ylabel(f"{name} (log scale)" if log else name)
        if log:
            plain_log_axis(axes, "y")
        else:
            axes.set_ylim(0, max(0.05, axes.get_ylim()[1]))
        axes.set_xlim(left=0)
        _legend(axes)

    return draw(plot, f"{name} during training")


def by_position(entries: Sequence[Entry], counts: Sequence[float], curve: str, name: str) -> str:
    """A curve over the position in the sequence, as means over bins that widen with the
    position.
    """

    def plot(axes: "Axes") -> None:
        lowest = 0.0
        for i, entry in enumerate(spread(entries)):
            positions, means = position_bins(entry["by_position"][curve], counts)
            lowest = min([lowest, *means])
            axes.plot(positions, means, label=label(entry), **_look(i, marker=False))
        plain_log_axis(axes, "x")
        axes.set_xlabel("position in the sequence, from 0 (log scale)")
        axes.set_ylabel(name)
        _from_zero(axes, [lowest])
        _legend(axes)

    return draw(plot, f"{name} by position")


def position_bins(
    values: Sequence[float | None], counts: Sequence[float]
) -> tuple[list[float], list[float]]:
    """Weighted means over bins of positions [1, 2), [2, 3), … that widen to about an eighth of the
    position.

    Single positions are few tokens and noisy; the first ones differ so much that they stay apart.
    Position 0 (BOS) and positions without a value are left out.

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


def _look(i: int, marker: bool) -> dict[str, Any]:
    """Colour with line or marker shape, so that no two series differ by colour alone."""
    i %= MAX_CURVES
    if marker:
        return {"color": COLOURS[i], "marker": MARKERS[i]}
    return {"color": COLOURS[i], "linestyle": LINES[i]}


def _annotate(axes: "Axes", points: Sequence[Entry], metric: str) -> None:
    """Writes λ beside the points."""
    for entry in points:
        if (price := sparsity(entry)) is not None:
            axes.annotate(
                f"λ {price:.3g}",
                (entry["l0"], entry[metric]),
                xytext=(5, 5),
                textcoords="offset points",
                fontsize=9.5,
            )


def _l0_axis(axes: "Axes", values: Sequence[float]) -> None:
    """L0 from 0, or logarithmic where it spans more than a decade."""
    axes.set_xlabel("L0, mean active latents per token")
    if min(values) > 0 and max(values) / min(values) > 10:
        plain_log_axis(axes, "x")
        axes.set_xlabel("L0, mean active latents per token (log scale)")
    else:
        axes.set_xlim(left=0, right=1.12 * max(values) or 1)


def _short(text: str) -> str:
    """The end of a name: a legend wider than its plot leaves no room for the plot."""
    return text if len(text) <= 30 else "…" + text[-29:]


def _legend(axes: "Axes") -> None:
    """The legend below the plot, which grows by its height: inside, it would cross a curve."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    _, labels = axes.get_legend_handles_labels()
    n_columns = 1 if max(map(len, labels), default=0) > 22 else 2
    figure.set_figheight(figure.get_figheight() + 0.2 * -(-len(labels) // n_columns))
    figure.legend(loc="outside lower left", ncols=n_columns)


def _from_zero(axes: "Axes", lowest: Sequence[float]) -> None:
    """The y axis from 0, or from below the `lowest` ends of points and bars where one is negative;
    with room for the labels of the topmost points."""
    low, high = axes.get_ylim()
    room = 0.05 * (high - low)
    least = min(lowest)
    axes.set_ylim(bottom=0.0 if least >= 0 else least - room, top=high + room)


def _error(entry: Entry, metric: str) -> float:
    """Half the length of a point's bar: two standard errors, 0 where they are not known."""
    return 2 * (entry.get(f"{metric}_stderr") or 0.0)


def _lowest_edge(summary: dict[str, Any]) -> float:
    """Left edge of the first bin with something in it."""
    filled = np.flatnonzero(summary["histogram"])
    return summary["log10_edges"][filled[0]] if len(filled) else -1.0


def _power_of_ten(exponent: int) -> str:
    """10⁻³ in characters that every font has."""
    digits = "⁰¹²³⁴⁵⁶⁷⁸⁹"
    sign = "⁻" if exponent < 0 else ""
    return "10" + sign + "".join(digits[int(d)] for d in str(abs(exponent)))
