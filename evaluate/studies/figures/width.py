"""Width: what a wider dictionary gains at one site (Figure 4).

The claim is read from the slope of log Δ loss over log₂ of the width, over the L0s that the
frontiers of all widths reach. Each seed has one ladder of widths.
"""

import math
from collections import Counter
from statistics import fmean, linear_regression
from typing import TYPE_CHECKING, Any

from ...study.axes import draw_frontiers
from ...study.entries import entries_of, frontiers, metric_points
from ...study.pairs import NOT_ABOVE, Stops, as_change, compared, counted, percent, stops
from ...study.statistics import Curve, Quantity, at_l0, difference, verdict_below
from ...study.study import Documents, LackError, Plot, Point, Reading, Scene, Study, Variant

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METRICS = ("delta_loss", "fvu")
SEEDS = (0, 1, 2)
Ladder = dict[int, Curve]
"""Width -> frontier, narrowest first, of one seed."""


def widths(scene: Scene) -> list[int]:
    """From an eighth of the suite's widest up to it; with `full` up to four times that."""
    shares = (8, 4, 2, 1)
    found = [max(1, scene.widths[-1] // share) for share in shares]
    return sorted({*found, *(scene.widths[-1] * n for n in ((2, 4) if scene.full else ()))})


def variants(scene: Scene) -> list[Variant]:
    """Widths at the suite's site and prices, three seeds of the SAEs' start."""
    seeds = [scene.seed + seed for seed in SEEDS]
    table = {"site": scene.site, "width": widths(scene), "seed": seeds, **scene.prices}
    return [Variant("widths", sae=[table])]


def points(documents: Documents) -> list[Point]:
    """Δ loss and FVU of every SAE."""
    found = metric_points(documents, METRICS)
    sites: dict[str, set[int]] = {}
    for point in found:
        sites.setdefault(point["site"], set()).add(point["width"])
    if max(map(len, sites.values()), default=0) < 2:
        _, _, entry = next(entries_of(documents))
        width = entry["d_sae"]
        raise LackError(
            f"study width must have SAEs of two widths or more at one site, got only width {width}"
            f"; make them: scopeworks sweep --store STORE --site {entry['site']} --width {width} "
            f"--width {2 * width} --width {4 * width} --sparsity 3e-4 --sparsity 1.2e-3 --seed 0 "
            "--seed 1 --seed 2 --out DIR"
        )
    return found


def read(points: list[Point]) -> Reading:
    """Whether Δ loss at equal L0 falls with width."""
    site = _site(points)
    ladders = _ladders([point for point in points if point["site"] == site])
    l0s = stops(*(curve for ladder in ladders for curve in ladder.values()))
    if not ladders:
        return _unread("no seed has two widths")
    if not l0s:
        return _unread("their frontiers have no L0 in common")
    found = compared([_slopes(ladder, l0s)] for ladder in ladders)
    if (slope := found.mean) is None:
        return _unread("a Δ loss is not above 0")
    longest = max(ladders, key=len)
    ends, (narrow, *_, wide) = _ends(longest, l0s), longest
    by_l0 = dict(zip((f"{l0:.3g}" for l0 in l0s), found.at, strict=True))
    first, *_, last = [*by_l0, *by_l0]
    shown = [f"{percent(as_change(by_l0[l0]))} at L0 {l0}" for l0 in dict.fromkeys((first, last))]
    turned = (
        f"the sign turns at the {' and the '.join(found.turned)} of them; " if found.turned else ""
    )
    return Reading(
        verdict_below(slope if slope.low is not None else ends),
        f"At equal L0 of {site}, each doubling of the width changes Δ loss by "
        f"{percent(as_change(slope))} over L0s ({counted(slope.n, 'seeds')}{found.left}), "
        f"{', '.join(shown)}; {turned}from width {narrow:,} to {wide:,} it changes by {ends} nats "
        "per token.",
        "t interval over seeds of the slope of log Δ loss over log₂ width, its mean over five L0s "
        "that all frontiers reach; with one seed the interval over sequences of the difference "
        "between the widest and the narrowest; the claim holds if it is below 0",
        {
            "site": site,
            "l0": [float(f"{l0:.6g}") for l0 in (l0s[0], l0s[-1])],
            "slope_of_log_delta_loss_a_doubling": slope.numbers(),
            "slope_by_l0": {l0: one.numbers() for l0, one in by_l0.items()},
            "n_seeds": slope.n,
            "widest_minus_narrowest": ends.numbers(),
        },
    )


def plots(points: list[Point]) -> list[Plot]:
    """Each metric against L0, one curve per width, of the first seed with the most widths."""
    site = _site(points)
    slots = sorted({(p["seed"], p["width"]) for p in points if p["site"] == site})
    seed = Counter(seed for seed, _ in slots).most_common(1)[0][0]
    own = [point for point in points if point["site"] == site and point["seed"] == seed]
    found = []
    captions = {"delta_loss": "Δ loss against L0 (Figure 4)", "fvu": "FVU against L0"}
    for metric, caption in captions.items():
        curves = {f"width {w:,}": c for (w,), c in sorted(frontiers(own, metric, "width").items())}

        def draw(axes: "Axes", curves: Any = curves, metric: str = metric) -> None:
            draw_frontiers(axes, curves, metric)

        text = f"{caption} by width, {site}. Bars: 95% intervals over sequences."
        found.append(Plot(metric, text, draw))
    return found


def _site(points: list[Point]) -> str:
    """The site with the most widths."""
    sites: dict[str, set[int]] = {}
    for point in points:
        sites.setdefault(point["site"], set()).add(point["width"])
    return max(sites, key=lambda site: len(sites[site]))


def _ladders(points: list[Point]) -> list[Ladder]:
    """Every seed's widths by Δ loss, of seeds that have two or more."""
    found: dict[int, Ladder] = {}
    for (seed, width), curve in sorted(frontiers(points, "delta_loss", "seed", "width").items()):
        found.setdefault(seed, {})[width] = curve
    return [ladder for ladder in found.values() if len(ladder) > 1]


def _values(ladder: Ladder, l0: float) -> dict[int, Quantity]:
    """Width -> Δ loss at an L0 that all frontiers reach."""
    values = {width: at_l0(curve, l0) for width, curve in ladder.items()}
    return {width: value for width, value in values.items() if value is not None}


def _slopes(ladder: Ladder, l0s: list[float]) -> Stops:
    """At each L0 the slope of log Δ loss over log₂ width."""
    rungs = [_values(ladder, l0) for l0 in l0s]
    if min(value.value for values in rungs for value in values.values()) <= 0:
        return NOT_ABOVE
    return [
        linear_regression(
            [math.log2(width) for width in values],
            [math.log(value.value) for value in values.values()],
        ).slope
        for values in rungs
    ]


def _ends(ladder: Ladder, l0s: list[float]) -> Quantity:
    """Mean over the L0s of Δ loss of the widest minus that of the narrowest.

    Errors are taken as fully correlated, because the SAEs are the same at every L0.
    """
    narrow, *_, wide = ladder
    rungs = [_values(ladder, l0) for l0 in l0s]
    gaps = [difference(values[wide], values[narrow]) for values in rungs]
    value, halves = fmean(gap.value for gap in gaps), [gap.half for gap in gaps]
    if None in halves:
        return Quantity(value)
    half = fmean(one or 0.0 for one in halves)
    return Quantity(value, value - half, value + half)


def _unread(why: str) -> Reading:
    """The reading if widths cannot be compared."""
    text = f"SAEs of different widths cannot be compared at equal L0: {why}."
    return Reading("cannot be told", text, "none: there is nothing to compare")


STUDY = Study(
    name="width",
    figures=("4",),
    title="What does a wider dictionary gain?",
    claim="At equal L0, wider SAEs cost the language model less loss.",
    minutes=6,
    variants=variants,
    points=points,
    read=read,
    plots=plots,
    for_saes=lambda _full: {"saes": {}},
)
