"""Frequency: how often latents fire, by width at one λ (Figure 5)."""

import itertools
import math
from typing import TYPE_CHECKING, Any

from ...page.svg import legend, look
from ...study.axes import power_of_ten
from ...study.entries import Entry, columns_of, entries_of
from ...study.statistics import Estimate, Z, difference, share_of, verdict_below, verdict_of_all
from ...study.study import (
    Documents,
    LackError,
    Plot,
    Point,
    Reading,
    Scene,
    Study,
    Variant,
    Verdict,
)
from .width import widths

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REPORTS_SEQUENCES = 20_000
BIN, MEAN, DENSE = "share of latents in the bin", "mean log10 frequency", "share above 10%"


def variants(scene: Scene) -> list[Variant]:
    """The widths of the width study at one λ; more sequences than are evaluated, if there are."""
    table = {"site": scene.site, "width": widths(scene), "sparsity": scene.sparsity}
    n = REPORTS_SEQUENCES if scene.full else 8 * scene.n_sequences
    firing = {"firing_sequences": max(n, scene.n_sequences)}
    return [Variant("counted", sae=[table], evaluate=firing)]


def points(documents: Documents) -> list[Point]:
    """Of every SAE the histogram, the mean logarithm and the share of latents above 10%."""
    found = [point for _, _, entry in entries_of(documents) for point in _points(entry)]
    if len({point["width"] for point in found}) < 2:
        width = found[0]["width"]
        raise LackError(
            f"study frequency must have SAEs of two widths or more at one λ, got only width {width}"
            f"; make them: scopeworks sweep --store STORE --site {found[0]['site']} --width {width}"
            f" --width {4 * width} --sparsity 6e-4 --out DIR"
        )
    return found


def read(points: list[Point]) -> Reading:
    """Whether frequencies fall with width, while latents above 10% stay."""
    means, dense = _by_width(points, MEAN), _by_width(points, DENSE)
    narrow, wide = min(means), max(means)
    shift = difference(means[wide], means[narrow])
    counts = {width: round(one.value * width) for width, one in dense.items()}
    stays: Verdict = "holds" if min(counts.values()) > 0 else "does not hold"
    shown = ", ".join(f"{n} of {width:,}" for width, n in counts.items())
    return Reading(
        verdict_of_all([verdict_below(shift), stays]),
        f"From width {narrow:,} to {wide:,} the mean log₁₀ frequency of latents that fire changes "
        f"by {shift}; above 10% of tokens fire {shown} latents.",
        "95% interval over latents of the difference of mean log₁₀ frequencies between the widest "
        "and the narrowest, which must be below 0; latents above 10% are counted, and every width "
        "must have one",
        {
            "mean_log10_frequency": {str(w): one.numbers() for w, one in means.items()},
            "widest_minus_narrowest": shift.numbers(),
            "share_above_10_percent": {str(w): one.numbers() for w, one in dense.items()},
        },
    )


def plots(points: list[Point]) -> list[Plot]:
    """The histograms, a curve a width."""

    def draw(axes: "Axes") -> None:
        own = [point for point in points if point["metric"] == BIN]
        for i, width in enumerate(sorted({point["width"] for point in own})):
            bins = [p for p in own if p["width"] == width]
            middles = [(p["log10_from"] + p["log10_to"]) / 2 for p in bins]
            shares = [p.value or 0.0 for p in bins]
            style = look(i, every=len(bins))
            axes.plot(middles, shares, drawstyle="steps-mid", label=f"width {width:,}", **style)
        low = min((p["log10_from"] for p in own if p.value), default=-1.0)
        axes.set_xlim(low - 0.2, 0)
        axes.set_ylim(bottom=0)
        ticks = range(math.ceil(low - 0.2), 1)
        axes.set_xticks(list(ticks), [power_of_ten(tick) for tick in ticks])
        axes.set_xlabel("firing frequency, share of tokens (log scale)")
        axes.set_ylabel("share of latents")
        legend(axes)

    n = max(point.n or 0 for point in points if point["metric"] == BIN)
    caption = f"Firing frequencies by width over {n:,} tokens (Figure 5); 0.1 decade a bin."
    return [Plot("histogram", caption, draw)]


def _points(entry: Entry) -> list[Point]:
    """One SAE's."""
    firing, width = entry["firing"], entry["d_sae"]
    edges, counts = firing["log10_edges"], firing["histogram"]
    own = columns_of(entry)

    def where(metric: str, low: float | None = None, high: float | None = None) -> dict[str, Any]:
        return {"metric": metric, **own, "log10_from": low, "log10_to": high}

    bins = [
        Point(where(BIN, low, high), count / width, n=firing["n_tokens"])
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
    ]
    middles = [(low + high) / 2 for low, high in itertools.pairwise(edges)]
    n = sum(counts)
    dense = share_of(firing["n_above_10_percent"], width)
    found = [Point(where(DENSE), dense.value, dense.low, dense.high, width)]
    if n > 1:
        mean = sum(m * c for m, c in zip(middles, counts, strict=True)) / n
        spread = sum(c * (m - mean) ** 2 for m, c in zip(middles, counts, strict=True)) / (n - 1)
        half = Z * math.sqrt(spread / n)
        found.append(Point(where(MEAN), mean, mean - half, mean + half, n))
    return found + bins


def _by_width(points: list[Point], metric: str) -> dict[int, Estimate]:
    """Width -> a metric, narrowest first; of several SAEs of a width the first."""
    found: dict[int, Estimate] = {}
    for point in points:
        if point["metric"] == metric and point.value is not None:
            found.setdefault(point["width"], Estimate(point.value, point.low, point.high, point.n))
    return dict(sorted(found.items()))


STUDY = Study(
    name="frequency",
    figures=("5",),
    title="How often do latents fire?",
    claim="Wider SAEs' latents fire less often, while a few that fire on more than 10% of tokens "
    "stay at every width.",
    minutes=1,
    variants=variants,
    points=points,
    read=read,
    plots=plots,
    for_saes=lambda full: {"saes": {"firing_sequences": REPORTS_SEQUENCES} if full else {}},
)
