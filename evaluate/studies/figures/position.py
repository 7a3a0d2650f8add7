"""Position: squared error and Δ loss along the sequence, at three kinds of sites (Figures 3, 15).

Positions are joined to bins that widen to about an eighth of the position. Errors of a bin's
positions are taken as fully correlated, because they are of the same sequences. The intervals are
therefore longer than they need be.
"""

from collections.abc import Iterable
from statistics import median
from typing import TYPE_CHECKING, Any

from ....train.frontier import plain_log_axis
from ...page.svg import legend, look
from ...study.entries import Entry, around, entries_of, place_of, sparsity_of
from ...study.statistics import Quantity, difference, verdict_above, verdict_of_all
from ...study.study import Documents, LackError, Plot, Point, Reading, Scene, Study, Variant

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METRICS = {
    "error": "squared error / variance over all positions",
    "delta_loss": "Δ loss, nats per token",
}
FIRST = 3
"""Positions 1 … 3 are the first tokens; 0 is BOS."""


def variants(scene: Scene) -> list[Variant]:
    """The three kinds of sites of the suite's layer, at one width and λ."""
    table = {"site": scene.at_layer(), "width": scene.width, "sparsity": scene.sparsity}
    return [Variant("one sparsity", sae=[table])]


def points(documents: Documents) -> list[Point]:
    """Both metrics in every bin of positions, of one SAE per site: the one with the middle L0."""
    found = [
        point
        for document, entry in _one_a_site(documents)
        for metric in METRICS
        for point in _curve(document, entry, metric)
    ]
    if not found:
        raise LackError(
            "study position must have sequences of more than two tokens, got none; evaluate on "
            "tokens of a longer context"
        )
    return found


def read(points: list[Point]) -> Reading:
    """Whether the error is lower at the first tokens than over the last half of the positions."""
    sites = dict.fromkeys(point["site"] for point in points)
    ends = {site: _ends([p for p in points if p["site"] == site]) for site in sites}
    rises = {site: difference(late, first) for site, (first, late, _) in ends.items()}
    parts = [
        f"{site}: {first.value:.3g} at the first {FIRST} tokens, {late.value:.3g} over the last "
        f"half (difference {rises[site]}), highest at position {peak:.0f}"
        for site, (first, late, peak) in ends.items()
    ]
    return Reading(
        verdict_of_all([verdict_above(rise) for rise in rises.values()]),
        f"Squared error in units of the variance, {'; '.join(parts)}. The course between (in the "
        "report near 0 at first, attention flat from about 100 on, MLP highest near 10) is in the "
        "figure and is not tested.",
        "95% interval over sequences of the difference between the last half of the positions and "
        "the first tokens; the claim holds if it is above 0 at every site",
        {
            site: {
                "first": first.numbers(),
                "late": late.numbers(),
                "late_minus_first": rises[site].numbers(),
                "highest_at": round(peak, 1),
            }
            for site, (first, late, peak) in ends.items()
        },
    )


def plots(points: list[Point]) -> list[Plot]:
    """Each metric over the positions, a curve a site."""
    captions = {
        "error": "Squared error by position (Figure 3); its mean over positions is the FVU.",
        "delta_loss": "Δ loss by position (Figure 15).",
    }
    return [Plot(metric, captions[metric], _drawn(points, metric)) for metric in METRICS]


def _drawn(points: list[Point], metric: str) -> Any:
    """A function that draws one metric."""

    def draw(axes: "Axes") -> None:
        for i, site in enumerate(dict.fromkeys(point["site"] for point in points)):
            own = [p for p in points if p["site"] == site and p["metric"] == metric]
            xs, ys = [p["position"] for p in own], [p.value for p in own]
            label = f"{site}, L0 {own[0]['l0']:.0f}"
            axes.plot(xs, ys, label=label, **look(i, every=len(own)))  # pyright: ignore[reportArgumentType]
            known = [p for p in own if p.low is not None and p.high is not None]
            axes.fill_between(
                [p["position"] for p in known],
                [p.low or 0.0 for p in known],
                [p.high or 0.0 for p in known],
                color=look(i)["color"],
                alpha=0.2,
                linewidth=0,
            )
        plain_log_axis(axes, "x")
        axes.set_xlabel("position in the sequence, from 0 (log scale)")
        axes.set_ylabel(METRICS[metric])
        drawn = [p for p in points if p["metric"] == metric]
        axes.set_ylim(bottom=min(0.0, *(p.low or p.value or 0.0 for p in drawn)))
        legend(axes)

    return draw


def _one_a_site(documents: Documents) -> Iterable[tuple[dict[str, Any], Entry]]:
    """Of a site's SAEs the one whose L0 is nearest their median."""
    sites: dict[str, list[tuple[dict[str, Any], Entry]]] = {}
    for _variant, document, entry in entries_of(documents):
        sites.setdefault(place_of(entry), []).append((document, entry))
    for many in sites.values():
        middle = median(entry["l0"] for _, entry in many)
        yield min(many, key=lambda one: abs(one[1]["l0"] - middle))


def _curve(document: dict[str, Any], entry: Entry, metric: str) -> Iterable[Point]:
    """One SAE's metric, bin by bin."""
    values = entry["by_position"][metric]
    errors = entry["by_position"].get(f"{metric}_stderr") or [None] * len(values)
    n_sequences = document["tokens"]["n_sequences"]
    counts = document["clean"]["by_position"]["n_predictions"]
    where = {
        "metric": metric,
        "site": place_of(entry),
        "width": entry["d_sae"],
        "sparsity": sparsity_of(entry),
        "l0": entry["l0"],
    }
    start = 1
    while start < len(values):
        stop = min(len(values), start + max(1, start // 8))
        inside = [p for p in range(start, stop) if values[p] is not None and counts[p] > 0]
        if weight := sum(counts[p] for p in inside):
            value = sum(values[p] * counts[p] for p in inside) / weight
            known = all(errors[p] is not None for p in inside)
            error = sum(errors[p] * counts[p] for p in inside) / weight if known else None
            position = sum(inside) / len(inside)
            own = where | {"first": start, "last": stop - 1, "position": position}
            one = around(value, error, n_sequences)
            yield Point(own, value, one.low, one.high, n=weight)
        start = stop


def _ends(points: list[Point]) -> tuple[Quantity, Quantity, float]:
    """The error at the first tokens and over the last half, and the position of its peak."""
    error = [point for point in points if point["metric"] == "error"]
    half = error[-1]["last"] / 2
    first = _mean([p for p in error if p["first"] <= FIRST])
    late = _mean([p for p in error if p["first"] >= half] or error[-1:])
    return first, late, max(error, key=lambda point: point.value or 0.0)["position"]


def _mean(points: list[Point]) -> Quantity:
    """The mean over bins, weighted by tokens; errors of bins are taken as fully correlated."""
    weight = sum(p.n or 0 for p in points)

    def mean(values: list[float]) -> float:
        return sum(v * (p.n or 0) for v, p in zip(values, points, strict=True)) / weight

    value = mean([p.value or 0.0 for p in points])
    lows, highs = [p.low for p in points], [p.high for p in points]
    if None in lows or None in highs:
        return Quantity(value)
    return Quantity(value, mean([v or 0.0 for v in lows]), mean([v or 0.0 for v in highs]))


STUDY = Study(
    name="position",
    figures=("3", "15"),
    title="Where in the sequence do SAEs err?",
    claim="At every kind of site squared error is lower at the first tokens than late in the "
    "sequence.",
    minutes=1,
    variants=variants,
    points=points,
    read=read,
    plots=plots,
    for_saes=lambda _full: {"saes": {}},
)
