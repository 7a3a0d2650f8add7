"""Frontier: what sparsity costs, at several sites, depths and widths (Figures 2, 13, 14, 17, 18).

The claim is read by Δ loss and by FVU, as ratios of two frontiers over the L0s that both reach. For
the widths each site is a unit; for the depths each kind of site is one, averaged over the widths.
SAEs of several seeds are compared seed by seed.
"""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ...study.axes import draw_frontiers
from ...study.entries import (
    columns_of,
    entries_of,
    frontiers,
    kind_of,
    layer_of,
    metric_points,
    of_one_seed,
)
from ...study.pairs import Comparison, compared, counted, log_ratios, stops, times
from ...study.statistics import Curve, Quantity, at_l0, verdict_below, verdict_of_all
from ...study.study import (
    Documents,
    LackError,
    Needs,
    Plot,
    Point,
    Reading,
    Scene,
    Study,
    Table,
    Variant,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KINDS = ("attn_out", "mlp_out", "resid_post")
METRICS = {"delta_loss": "Δ loss", "fvu": "FVU"}
Curves = dict[tuple[Any, ...], Curve]
PARTS = {
    "wider": ("a wider SAE's", "a narrower one's", "sites"),
    "later": ("a later layer's", "an earlier one's", "kinds of sites"),
}
"""Part of the claim -> what is compared with what, over which units."""
LIES = {"holds": "lower", "does not hold": "higher", "cannot be told": "cannot be told"}


def variants(scene: Scene) -> list[Variant]:
    """Three kinds of sites at an early layer and the suite's, two widths, the suite's prices.

    A late layer too with `full`, or if the suite's layer is the early one.
    """
    layers = {scene.n_layers // 5, scene.layer}
    if scene.full or len(layers) == 1:
        layers.add(3 * scene.n_layers // 4)
    sites = [f"{kind}.{layer}" for layer in sorted(layers) for kind in KINDS]
    table = {"site": sites, "width": list(widths(scene)), **scene.prices}
    return [Variant("frontier", sae=[table])]


def widths(scene: Scene) -> tuple[int, int]:
    """The suite's narrowest and widest; if it has only one width, a quarter of it and that one."""
    narrow, wide = scene.widths[0], scene.widths[-1]
    return (narrow, wide) if narrow < wide else (max(1, wide // 4), wide)


def points(documents: Documents) -> list[Point]:
    """Δ loss and FVU of every SAE."""
    found = metric_points(documents, METRICS)
    slots = {key: len({l0 for l0, _ in c}) for key, c in _curves(found, "fvu").items()}
    if max(slots.values(), default=0) < 2:
        _, _, entry = next(entries_of(documents))
        where = columns_of(entry)
        raise LackError(
            "study frontier must have SAEs of two λs or more at one site, width and "
            f"seed, got one at each of {len(slots)}; make them: scopeworks sweep --store STORE "
            f"--site {entry['site']} --width {where['width']} --sparsity 3e-4 --sparsity 6e-4 "
            "--sparsity 1.2e-3 --out DIR"
        )
    return found


def read(points: list[Point]) -> Reading:
    """Whether wider SAEs and those of later layers lie lower, by Δ loss and by FVU."""
    found: dict[str, dict[str, Comparison]] = {part: {} for part in PARTS}
    for metric in METRICS:
        curves = _curves(points, metric)
        found["wider"][metric], found["later"][metric] = _wider(curves), _later(curves)
    every = [one for by_metric in found.values() for one in by_metric.values()]
    kinds = _kinds(of_one_seed(_curves(points, "delta_loss")))
    parts = [_part(part, by_metric) for part, by_metric in found.items()]
    if kinds:
        values = ", ".join(f"{name} {value:.3g}" for name, value in kinds["values"].items())
        parts.append(f"side by side at L0 {kinds['l0']:.3g}, Δ loss in nats per token: {values}")
    return Reading(
        verdict_of_all([verdict_below(one.mean or Quantity(0.0)) for one in every]),
        f"At equal L0, {'; '.join(parts)}.",
        "t intervals over sites (widths) and over kinds of sites (layers) of mean log ratios, each "
        "over five L0s that both frontiers reach; the claim holds if all four are below 0, by Δ "
        "loss and by FVU, and does not if one is above",
        {
            **{
                f"log_ratio_of_{metric}": {part: found[part][metric].numbers() for part in PARTS}
                for metric in METRICS
            },
            "delta_loss_at_one_l0": kinds,
        },
    )


def plots(points: list[Point]) -> list[Plot]:
    """Kinds of sites in one plot, then each kind by layer and width; by Δ loss and by FVU."""
    found = []
    figures = {"delta_loss": "Figures 2, 17, 18", "fvu": "Figures 13, 14"}
    for metric, name in METRICS.items():
        curves = of_one_seed(_curves(points, metric))
        layer = max((layer_of(site) for site, _ in curves), default=0)
        width = max((width for _, width in curves), default=0)
        beside = {s: c for (s, w), c in curves.items() if w == width and layer_of(s) == layer}
        caption = f"{name} against L0 at layer {layer}, width {width:,} ({figures[metric]})."
        found.append(_plot(f"{metric}-sites", caption, beside, metric))
        for kind in dict.fromkeys(kind_of(site) for site, _ in curves):
            own = {
                f"layer {layer_of(s)}, width {w:,}": c
                for (s, w), c in sorted(curves.items(), key=lambda one: _order(one[0]))
                if kind_of(s) == kind
            }
            caption = f"{name} against L0: {kind} by layer and width."
            found.append(_plot(f"{metric}-{kind}", caption, own, metric))
    return found


def _plot(name: str, caption: str, curves: dict[str, Curve], metric: str) -> Plot:
    """One figure of frontiers."""

    def draw(axes: "Axes") -> None:
        draw_frontiers(axes, curves, metric)

    return Plot(name, f"{caption} Bars: 95% intervals over sequences.", draw)


def _curves(points: list[Point], metric: str) -> Curves:
    """(site, width, seed) -> frontier."""
    return dict(frontiers(points, metric, "site", "width", "seed"))


def _order(slot: tuple[Any, ...]) -> tuple[int, int]:
    return layer_of(slot[0]), slot[1]


def _wider(curves: Curves) -> Comparison:
    """Each width against the next narrower one of the same seed, site by site."""
    units: dict[str, dict[int, list[int]]] = {}
    for site, width, seed in sorted(curves):
        units.setdefault(site, {}).setdefault(seed, []).append(width)
    return compared(
        [
            log_ratios(curves[site, b, seed], curves[site, a, seed])
            for seed, ladder in seeds.items()
            for a, b in pairwise(ladder)
        ]
        for site, seeds in units.items()
    )


def _later(curves: Curves) -> Comparison:
    """Each layer against the next earlier one of the same width and seed, kind by kind."""
    units: dict[str, dict[tuple[int, int], list[str]]] = {}
    for site, width, seed in sorted(curves, key=_order):
        units.setdefault(kind_of(site), {}).setdefault((width, seed), []).append(site)
    return compared(
        [
            log_ratios(curves[late, *slot], curves[early, *slot])
            for slot, ladder in slots.items()
            for early, late in pairwise(ladder)
        ]
        for slots in units.values()
    )


def _kinds(curves: Curves) -> Table:
    """Δ loss of the kinds of sites at the latest layer and largest width, at one L0."""
    layer = max(layer_of(site) for site, _ in curves)
    width = max(width for _, width in curves)
    own = {s: c for (s, w), c in curves.items() if w == width and layer_of(s) == layer}
    l0s = stops(*own.values())
    if not l0s or len(own) < 2:
        return {}
    l0 = l0s[len(l0s) // 2]
    values = {site: at_l0(curve, l0) for site, curve in own.items()}
    shown = {site: float(f"{one.value:.6g}") for site, one in values.items() if one is not None}
    return {"l0": float(f"{l0:.6g}"), "width": width, "values": shown}


def _part(part: str, by_metric: dict[str, Comparison]) -> str:
    """One part of the claim in words, by every metric."""
    whose, than, units = PARTS[part]
    shown = []
    if all(one.mean is None for one in by_metric.values()):
        left = next(iter(by_metric.values())).left
        return f"{whose} frontiers could be compared with {than} nowhere{left}"
    for metric, one in by_metric.items():
        what = f"its {METRICS[metric]}" if shown else f"{whose} {METRICS[metric]}"
        if one.mean is None:
            shown.append(f"{what} could be compared with {than} nowhere{one.left}")
            continue
        turned = "".join(f", but {times(v)} at the {end} L0s" for end, v in one.turned.items())
        where = f"{counted(one.mean.n, units)}{one.left}"
        lies = LIES[verdict_below(one.mean)]
        shown.append(f"{what} is {times(one.mean)} times {than} ({where}: {lies}{turned})")
    return ", ".join(shown)


STUDY = Study(
    name="frontier",
    figures=("2", "13", "14", "17", "18"),
    title="What do sparsity, site, depth and width do to fidelity?",
    claim="At equal L0, wider SAEs and SAEs of later layers lie lower, by Δ loss and by FVU.",
    minutes=8,
    variants=variants,
    points=points,
    read=read,
    plots=plots,
    for_saes=lambda _full: {"saes": {}},
    needs=Needs("SAEs of two λs or more at one site and width", alike=True),
)
