"""Width: what a wider dictionary gains at one site (Figure 4).

The claim is read at one L0 that the frontiers of all widths reach: the slope of log Δ loss there
over log₂ of the width, one slope for each seed.
"""

import math
from typing import TYPE_CHECKING, Any

from ...study.axes import draw_frontiers
from ...study.entries import entries_of, frontiers, metric_points
from ...study.statistics import (
    Estimate,
    at_l0,
    common_l0,
    difference,
    mean_of,
    slope_of,
    verdict_below,
)
from ...study.study import Documents, LackError, Plot, Point, Reading, Scene, Study, Variant

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METRICS = ("delta_loss", "fvu")
SEEDS = (0, 1, 2)


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
    own = [point for point in points if point["site"] == site]
    curves = frontiers(own, "delta_loss", "seed", "width")
    l0 = common_l0(*curves.values())
    if l0 is None:
        return _unread("their frontiers have no L0 in common")
    values = {slot: at_l0(curve, l0) for slot, curve in curves.items()}
    seeds = sorted({seed for seed, _ in values})
    slopes = [
        slope
        for seed in seeds
        if (slope := _slope({w: v for (s, w), v in values.items() if s == seed and v})) is not None
    ]
    if not slopes:
        return _unread("a Δ loss is not above 0, or a seed has one width only")
    slope = mean_of(slopes)
    ends = _ends(values)
    verdict = verdict_below(slope if slope.low is not None else ends)
    change = f"{100 * math.expm1(slope.value):+.1f}%"
    if slope.low is not None and slope.high is not None:
        change += f" ({100 * math.expm1(slope.low):+.1f}% to {100 * math.expm1(slope.high):+.1f}%)"
    narrow, wide = min(w for _, w in values), max(w for _, w in values)
    return Reading(
        verdict,
        f"At L0 {l0:.3g} of {site}, each doubling of the width changes Δ loss by {change}, "
        f"{len(slopes)} seed{'s' * (len(slopes) > 1)}; from width {narrow:,} to {wide:,} it "
        f"changes by {ends} nats per token.",
        "t interval over seeds of the slope of log Δ loss over log₂ width at the L0 in the middle "
        "of what all frontiers reach; with one seed the interval over sequences of the difference "
        "between the widest and the narrowest; the claim holds if it is below 0",
        {
            "site": site,
            "l0": float(f"{l0:.6g}"),
            "slope_of_log_delta_loss_a_doubling": slope.numbers(),
            "n_seeds": len(slopes),
            "widest_minus_narrowest": ends.numbers(),
        },
    )


def plots(points: list[Point]) -> list[Plot]:
    """Each metric against L0, a curve a width, of the first seed."""
    site = _site(points)
    seed = min(point["seed"] for point in points if point["site"] == site)
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


def _slope(values: dict[int, Estimate]) -> float | None:
    """Of log Δ loss over log₂ width; None where it is not defined."""
    if len(values) < 2 or min(one.value for one in values.values()) <= 0:
        return None
    return slope_of([(math.log2(w), math.log(one.value)) for w, one in values.items()])


def _ends(values: dict[tuple[Any, ...], Estimate | None]) -> Estimate:
    """Δ loss of the widest minus that of the narrowest, of the first seed."""
    seed = min(seed for seed, _ in values)
    own = {width: one for (s, width), one in values.items() if s == seed and one is not None}
    return difference(own[max(own)], own[min(own)])


def _unread(why: str) -> Reading:
    """Widths that cannot be compared."""
    text = f"SAEs of different widths cannot be compared at one L0: {why}."
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
