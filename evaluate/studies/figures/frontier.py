"""Frontier: what sparsity costs, at several sites, depths and widths (Figures 2, 13, 14, 17, 18).

The claim is read at one L0 that both frontiers of a pair reach: the ratio of their Δ losses there.
Pairs of widths at one site are one unit each; pairs of depths are averaged over the widths, one
unit for each kind of site.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ...study.axes import draw_frontiers
from ...study.entries import columns_of, entries_of, frontiers, kind_of, layer_of, metric_points
from ...study.statistics import (
    Estimate,
    at_l0,
    common_l0,
    mean_of,
    verdict_below,
    verdict_of_all,
)
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

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KINDS = ("attn_out", "mlp_out", "resid_post")
METRICS = ("delta_loss", "fvu")
Curve = Sequence[tuple[float, Estimate]]


def variants(scene: Scene) -> list[Variant]:
    """Three kinds of sites at an early layer and the suite's, two widths, the suite's prices; with
    `full` a late layer too."""
    layers = {scene.n_layers // 5, scene.layer}
    if scene.full or len(layers) == 1:
        layers.add(3 * scene.n_layers // 4)
    sites = [f"{kind}.{layer}" for layer in sorted(layers) for kind in KINDS]
    table = {"site": sites, "width": list(widths(scene)), **scene.prices}
    return [Variant("frontier", sae=[table])]


def widths(scene: Scene) -> tuple[int, int]:
    """The suite's narrowest and widest, or a quarter of its only one and that."""
    narrow, wide = scene.widths[0], scene.widths[-1]
    return (narrow, wide) if narrow < wide else (max(1, wide // 4), wide)


def points(documents: Documents) -> list[Point]:
    """Δ loss and FVU of every SAE."""
    found = metric_points(documents, METRICS)
    slots = {key: len({l0 for l0, _ in c}) for key, c in _curves(found, METRICS[1]).items()}
    if max(slots.values(), default=0) < 2:
        _, _, entry = next(entries_of(documents))
        where = columns_of(entry)
        raise LackError(
            "study frontier must have SAEs of two λs or more at one site and width, got "
            f"{len(slots)} of one each; make them: scopeworks sweep --store STORE --site "
            f"{entry['site']} --width {where['width']} --sparsity 3e-4 --sparsity 6e-4 "
            "--sparsity 1.2e-3 --out DIR"
        )
    return found


def read(points: list[Point]) -> Reading:
    """Whether wider SAEs and those of later layers lie lower, by Δ loss at one L0."""
    curves = _curves(points, "delta_loss")
    wider, later = _wider(curves), _later(curves)
    nowhere = Estimate(0.0)
    verdicts: list[Verdict] = [verdict_below(one or nowhere) for one in (wider, later)]
    kinds = _kinds(curves)
    numbers = {
        "log_ratio_of_delta_loss": {
            "wider": None if wider is None else wider.numbers(),
            "later": None if later is None else later.numbers(),
        },
        "delta_loss_at_one_l0": kinds,
    }
    parts = [
        _part(wider, "a wider SAE's Δ loss", "a narrower one's", "sites"),
        _part(later, "a later layer's Δ loss", "an earlier one's", "kinds of sites"),
    ]
    if kinds:
        values = ", ".join(f"{name} {value:.3g}" for name, value in kinds["values"].items())
        parts.append(f"side by side at L0 {kinds['l0']:.3g}, nats per token: {values}")
    return Reading(
        verdict_of_all(verdicts),
        f"At equal L0, {'; '.join(parts)}.",
        "t interval of the mean log ratio over sites (widths) and over kinds of sites (layers), "
        "each ratio at the middle of the L0s that both frontiers reach; the claim holds if both "
        "intervals are below 0",
        numbers,
    )


def plots(points: list[Point]) -> list[Plot]:
    """Kinds of sites side by side, then every kind by layer and width; by Δ loss and by FVU."""
    found = []
    for metric, figures in zip(METRICS, ("2, 17, 18", "13, 14"), strict=True):
        name = {"delta_loss": "Δ loss", "fvu": "FVU"}[metric]
        curves = _curves(points, metric)
        layer = max((layer_of(site) for site, _ in curves), default=0)
        width = max((width for _, width in curves), default=0)
        beside = {s: c for (s, w), c in curves.items() if w == width and layer_of(s) == layer}
        caption = f"{name} against L0 at layer {layer}, width {width:,}"
        found.append(_plot(f"{metric}-sites", f"{caption} (Figure {figures}).", beside, metric))
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


def _curves(points: list[Point], metric: str) -> dict[tuple[Any, ...], Curve]:
    """(site, width) -> frontier."""
    return dict(frontiers(points, metric, "site", "width"))


def _order(slot: tuple[Any, ...]) -> tuple[int, int]:
    return layer_of(slot[0]), slot[1]


def _log_ratio(a: Curve, b: Curve) -> float | None:
    """log of a's value over b's, at the middle of the L0s that both reach."""
    l0 = common_l0(a, b)
    if l0 is None:
        return None
    left, right = at_l0(a, l0), at_l0(b, l0)
    if left is None or right is None or min(left.value, right.value) <= 0:
        return None
    return math.log(left.value / right.value)


def _wider(curves: dict[tuple[Any, ...], Curve]) -> Estimate | None:
    """Mean log ratio of a wide SAE's Δ loss to the next narrower one's, over sites."""
    ratios = []
    for site in dict.fromkeys(site for site, _ in curves):
        ladder = sorted(width for s, width in curves if s == site)
        steps = [_log_ratio(curves[site, b], curves[site, a]) for a, b in pairwise(ladder)]
        known = [step for step in steps if step is not None]
        ratios += [fmean(known)] if known else []
    return mean_of(ratios) if ratios else None


def _later(curves: dict[tuple[Any, ...], Curve]) -> Estimate | None:
    """Mean log ratio of a later layer's Δ loss to the earlier one's, over kinds of sites."""
    ratios = []
    for kind in dict.fromkeys(kind_of(site) for site, _ in curves):
        own = sorted((w, layer_of(s), s) for s, w in curves if kind_of(s) == kind)
        steps = [
            _log_ratio(curves[late[2], late[0]], curves[early[2], early[0]])
            for early, late in pairwise(own)
            if early[0] == late[0]
        ]
        known = [step for step in steps if step is not None]
        ratios += [fmean(known)] if known else []
    return mean_of(ratios) if ratios else None


def _kinds(curves: dict[tuple[Any, ...], Curve]) -> dict[str, Any]:
    """Δ loss of the kinds of sites at the latest layer and largest width, at one L0."""
    layer = max(layer_of(site) for site, _ in curves)
    width = max(width for _, width in curves)
    own = {s: c for (s, w), c in curves.items() if w == width and layer_of(s) == layer}
    l0 = common_l0(*own.values())
    if l0 is None or len(own) < 2:
        return {}
    values = {site: at_l0(curve, l0) for site, curve in own.items()}
    shown = {site: float(f"{one.value:.6g}") for site, one in values.items() if one is not None}
    return {"l0": float(f"{l0:.6g}"), "width": width, "values": shown}


def _part(ratio: Estimate | None, what: str, than: str, units: str) -> str:
    """One part of the claim in words."""
    if ratio is None:
        return f"{what} could be compared with {than} nowhere"
    shown = f"{what} is {math.exp(ratio.value):.2f} times {than}"
    if ratio.low is None or ratio.high is None:
        return f"{shown}, but only {ratio.n} of the {units} could be compared"
    low, high = math.exp(ratio.low), math.exp(ratio.high)
    return f"{shown} ({low:.2f} to {high:.2f}, {ratio.n} {units})"


STUDY = Study(
    name="frontier",
    figures=("2", "13", "14", "17", "18"),
    title="What do sparsity, site, depth and width do to fidelity?",
    claim="At equal L0, wider SAEs and SAEs of later layers cost the language model less loss.",
    minutes=8,
    variants=variants,
    points=points,
    read=read,
    plots=plots,
    for_saes=lambda _full: {"saes": {}},
)
