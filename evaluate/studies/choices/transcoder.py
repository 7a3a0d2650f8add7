"""Transcoder: does it cost more to predict an MLP's output than to encode it? (Figure 11.)

Transcoders and MLP SAEs of the same width, steered to the same L0s, at six layers. Both replace the
MLP sublayer's output. The claim is read over the layers.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...page.svg import legend
from ...study.axes import draw_estimates, draw_frontiers
from ...study.entries import frontiers, kind_of, layer_of, metric_points
from ...study.pairs import as_change, counted, log_ratio, numbers_of, paired, percent
from ...study.statistics import Curve, Quantity, verdict_above
from ...study.study import (
    Documents,
    LackError,
    Plot,
    Point,
    Reading,
    Scene,
    Study,
    Variant,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LAYERS = 6
TARGETS = (10, 25, 60)
"""Wanted L0s. A transcoder's target has a scale of its own, so its λ is no SAE's λ."""
METRICS = ("delta_loss", "fvu")
MLP_SAE, TRANSCODER = "MLP SAE", "transcoder"


def variants(scene: Scene) -> list[Variant]:
    """Both kinds at six layers, evenly from the first to the last.

    They have a quarter of the suite's width, with `full` all of it.
    """
    width = scene.width if scene.full else max(1, scene.width // 4)
    last, n = scene.n_layers - 1, min(LAYERS, scene.n_layers)
    layers = sorted({round(last * i / max(1, n - 1)) for i in range(n)})
    shared = {"name": "transcoder", "width": width, "target_l0": _targets(width)}
    tables = [
        shared | {"site": [f"mlp_out.{layer}" for layer in layers]},
        shared | {"site": [f"transcoder_in.{layer}" for layer in layers], "target_site": "mlp_out"},
    ]
    return [Variant("kinds", sae=tables)]


def _targets(width: int) -> list[int]:
    return [l0 for l0 in TARGETS if l0 <= width // 4] or [max(1, width // 4)]


def points(documents: Documents) -> list[Point]:
    """Δ loss and FVU of every SAE and transcoder that writes an MLP's output."""
    found = []
    for point in metric_points(documents, METRICS):
        reads, _, writes = point["site"].partition(" → ")
        if kind_of(writes or reads) == "mlp_out":
            where = {"metric": point["metric"], "kind": TRANSCODER if writes else MLP_SAE}
            where |= {"layer": layer_of(reads), **point.where}
            found.append(Point(where, point.value, point.low, point.high, point.n))
    if {point["kind"] for point in found} != {MLP_SAE, TRANSCODER}:
        raise LackError(
            "study transcoder must have transcoders to mlp_out and SAEs of mlp_out, got "
            f"{', '.join(sorted({point['kind'] for point in found})) or 'neither'}; make them: "
            "scopeworks sweep --store STORE --site transcoder_in.L --target-site mlp_out.L --width "
            "W --target-l0 10 --target-l0 25 --target-l0 60 --out DIR, and --site mlp_out.L alike"
        )
    return found


def read(points: list[Point]) -> Reading:
    """Whether transcoders cost more loss than SAEs of equal L0, over the layers."""
    saes, transcoders = (_curves(points, kind, "delta_loss") for kind in (MLP_SAE, TRANSCODER))
    ratio = paired(transcoders, saes)
    fvu = paired(*(_curves(points, kind, "fvu") for kind in (TRANSCODER, MLP_SAE)))
    layers = {
        str(layer): log_ratio(curve, saes[layer])
        for layer, curve in sorted(transcoders.items())
        if layer in saes
    }
    known = {layer: value for layer, value in layers.items() if value is not None}
    more = sum(value > 0 for value in known.values())
    unknown = len(layers) - len(known)
    left = f"; {unknown} more could not be compared" if unknown else ""
    return Reading(
        verdict_above(ratio or Quantity(0.0)),
        "At equal L0 a transcoder's Δ loss differs from an MLP SAE's by "
        f"{percent(as_change(ratio))} over {counted(len(known), 'layers')} (higher at "
        f"{more}{left}), its FVU by {percent(as_change(fvu))}.",
        "t interval over layers of the mean log ratio of Δ loss at equal L0, both in place of the "
        "MLP sublayer's output; the claim holds if the interval is above 0",
        {
            "log_ratio_of_delta_loss": numbers_of(ratio),
            "log_ratio_of_fvu": numbers_of(fvu),
            "log_ratio_by_layer": {
                layer: None if value is None else float(f"{value:.6g}")
                for layer, value in layers.items()
            },
        },
    )


def plots(points: list[Point]) -> list[Plot]:
    """Δ loss against L0 for each layer, and the ratio by layer."""
    saes, transcoders = (_curves(points, kind, "delta_loss") for kind in (MLP_SAE, TRANSCODER))
    found = []
    for layer in sorted(saes.keys() & transcoders.keys()):
        own = {MLP_SAE: saes[layer], TRANSCODER: transcoders[layer]}
        caption = f"Δ loss against L0 at layer {layer}. Bars: 95% intervals over sequences."
        found.append(Plot(f"layer-{layer}", caption, _frontiers(own)))

    def by_layer(axes: "Axes") -> None:
        for i, (metric, name) in enumerate(zip(METRICS, ("Δ loss", "FVU"), strict=True)):
            ratios = [
                (layer, as_change(Quantity(value)))
                for layer, value in _ratios(points, metric)
                if value is not None
            ]
            shown = [(x, Quantity(100 * one.value)) for x, one in ratios if one is not None]
            draw_estimates(axes, shown, name, i)
        axes.axhline(0, color="#888888", linewidth=0.8)
        axes.set_xticks(sorted({point["layer"] for point in points}))
        axes.set_xlabel("layer")
        axes.set_ylabel("transcoder against MLP SAE, %")
        legend(axes)

    caption = "Δ loss and FVU of a transcoder against an MLP SAE of equal L0, by layer."
    return [*found, Plot("layers", caption, by_layer)]


def _frontiers(curves: dict[str, Curve]):
    def draw(axes: "Axes") -> None:
        draw_frontiers(axes, curves, "delta_loss")

    return draw


def _curves(points: Sequence[Point], kind: str, metric: str) -> dict[int, Curve]:
    """Layer -> frontier of one kind."""
    own = [point for point in points if point["kind"] == kind]
    return {layer: curve for (layer,), curve in frontiers(own, metric, "layer").items()}


def _ratios(points: Sequence[Point], metric: str) -> list[tuple[int, float | None]]:
    """(layer, log ratio of transcoder to SAE)."""
    saes, transcoders = (_curves(points, kind, metric) for kind in (MLP_SAE, TRANSCODER))
    layers = sorted(saes.keys() & transcoders.keys())
    return [(layer, log_ratio(transcoders[layer], saes[layer])) for layer in layers]


STUDY = Study(
    name="transcoder",
    figures=("11",),
    title="What does a transcoder cost beside an MLP SAE?",
    claim="In place of an MLP's output, transcoders cost more loss than MLP SAEs of equal L0.",
    minutes=6,
    variants=variants,
    points=points,
    read=read,
    plots=plots,
    for_saes=lambda _full: {"saes": {}},
)
