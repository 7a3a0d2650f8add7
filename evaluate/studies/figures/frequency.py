"""Frequency: how often latents fire, by width at one site and λ (Figure 5)."""

import itertools
import math
from statistics import median
from typing import TYPE_CHECKING, Any

from ...page.svg import legend, look, power_of_ten
from ...study.entries import Entry, around, columns_of, entries_of
from ...study.statistics import Quantity, difference, share_of, verdict_below, verdict_of_all
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
    """The widths of the width study at one λ, counted on more sequences than are evaluated."""
    table = {"site": scene.site, "width": widths(scene), "sparsity": scene.sparsity}
    n = REPORTS_SEQUENCES if scene.full else 8 * scene.n_sequences
    firing = {"firing_sequences": max(n, scene.n_sequences)}
    return [Variant("counted", sae=[table], evaluate=firing)]


def points(documents: Documents) -> list[Point]:
    """Of every SAE the histogram, the mean logarithm and the share of latents above 10%."""
    found = [point for _, *one in entries_of(documents) for point in _points(*one)]
    own = _at_one_price(found)
    if len({point["width"] for point in own}) < 2:
        width, sparsity = own[0]["width"], own[0]["sparsity"] or 6e-4
        raise LackError(
            "study frequency must have SAEs of two widths or more at one site and λ, got only "
            f"width {width}; make them: scopeworks sweep --store STORE --site {own[0]['site']} "
            f"--width {width} --width {4 * width} --sparsity {sparsity:g} --out DIR"
        )
    return found


def read(points: list[Point]) -> Reading:
    """Whether frequencies fall with width, while latents above 10% stay."""
    own = _at_one_price(points)
    means, dense = _by_width(own, MEAN), _by_width(own, DENSE)
    narrow, wide = min(means), max(means)
    shift = difference(means[wide], means[narrow])
    counts = {width: round(one.value * width) for width, one in dense.items()}
    stays: Verdict = "holds" if min(counts.values()) > 0 else "does not hold"
    shown = ", ".join(f"{n} of {width:,}" for width, n in counts.items())
    return Reading(
        "cannot be told" if shift.low is None else verdict_of_all([verdict_below(shift), stays]),
        f"{_sparsity(own)}: from width {narrow:,} to {wide:,} the mean log₁₀ frequency of latents "
        f"that fire changes by {shift}; {shown} latents fire on more than 10% of tokens.",
        "95% interval over latents of the difference of mean log₁₀ frequencies between the widest "
        "and the narrowest, which must be below 0; latents above 10% are counted, and every width "
        "must have one",
        {
            "site": own[0]["site"],
            "sparsity": own[0]["sparsity"],
            "mean_log10_frequency": {str(w): one.numbers() for w, one in means.items()},
            "widest_minus_narrowest": shift.numbers(),
            "share_above_10_percent": {str(w): one.numbers() for w, one in dense.items()},
        },
    )


def plots(points: list[Point]) -> list[Plot]:
    """The histograms, a curve a width."""
    own = [point for point in _at_one_price(points) if point["metric"] == BIN]

    def draw(axes: "Axes") -> None:
        for i, width in enumerate(sorted({point["width"] for point in own})):
            bins = _filled([p for p in own if p["width"] == width])
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

    n = max(point.n or 0 for point in own)
    caption = (
        f"Firing frequencies by width over {n:,} tokens, {_sparsity(own)} (Figure 5); bins of 0.1 "
        "decade."
    )
    return [Plot("histogram", caption, draw)]


def _points(document: dict[str, Any], entry: Entry) -> list[Point]:
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
        one = around(mean, math.sqrt(spread / n), document["tokens"]["n_sequences"])
        found.append(Point(where(MEAN), mean, one.low, one.high, n))
    return found + bins


def _at_one_price(points: list[Point]) -> list[Point]:
    """The points of one SAE per width, at the site and λ that have the most widths.

    Of several SAEs of a width, that of the lowest seed is taken; of those, the one with L0 nearest
    the median of all.
    """
    slots: dict[tuple[str, float], list[Point]] = {}
    for point in points:
        slots.setdefault((point["site"], point["sparsity"] or 0.0), []).append(point)
    _, own = min(slots.items(), key=lambda one: (-len({p["width"] for p in one[1]}), one[0]))
    middle = median(p["l0"] for p in own)
    chosen: dict[int, tuple[int, float, float]] = {}
    for p in own:
        rank = (p["seed"], abs(p["l0"] - middle), p["l0"])
        chosen[p["width"]] = min(rank, chosen.get(p["width"], rank))
    return [p for p in own if (p["seed"], p["l0"]) == chosen[p["width"]][::2]]


def _sparsity(own: list[Point]) -> str:
    """Site and λ in words."""
    sparsity = own[0]["sparsity"]
    return own[0]["site"] + ("" if sparsity is None else f", λ {sparsity:g}")


def _filled(bins: list[Point]) -> list[Point]:
    """From the first bin with latents to the last, and one empty bin on either side."""
    known = [i for i, point in enumerate(bins) if point.value] or [0]
    return bins[max(0, known[0] - 1) : known[-1] + 2]


def _by_width(points: list[Point], metric: str) -> dict[int, Quantity]:
    """Width -> a metric, narrowest first."""
    found: dict[int, Quantity] = {}
    for point in points:
        if point["metric"] == metric and point.value is not None:
            found[point["width"]] = Quantity(point.value, point.low, point.high, point.n)
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
