"""Precision: is an evaluation in bfloat16 as good as one in float32? (Figure 10.)

The same SAEs on the same sequences, once with model and SAE in float32 and once with both in
bfloat16. The differences are paired by SAE and tested for equivalence within a margin.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...study.axes import draw_frontiers
from ...study.entries import columns_of, entries_of, figure_of, frontiers
from ...study.pairs import Curve, as_change, numbers_of, percent
from ...study.statistics import Quantity, mean_of, verdict_of_all
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
    Verdict,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARGIN = 0.01
"""Relative: a smaller change of Δ loss or FVU is negligible."""
SEQUENCES = 64
"""Few, because without bfloat16 units a forward pass takes up to twenty times as long."""
METRICS = ("delta_loss", "fvu", "l0")
TYPES = ("float32", "bfloat16")
MOST_PAIRS = 3
"""Most pairs of curves in the figure; more would not be readable."""


def variants(scene: Scene) -> list[Variant]:
    """The suite's own SAEs, evaluated twice, on at most 64 sequences unless `full`."""
    n = scene.n_sequences if scene.full else min(SEQUENCES, scene.n_sequences)
    return [Variant(name, evaluate=_settings(name) | {"n_sequences": n}) for name in TYPES]


def _settings(name: str) -> Table:
    return {"dtype": name, "sae_dtype": name}


def points(documents: Documents) -> list[Point]:
    """Δ loss, FVU and L0 of every SAE in both precisions."""
    found, numbers = [], {}
    for metric in METRICS:
        for variant, document, entry in entries_of(documents):
            number = numbers.setdefault(entry["name"], len(numbers))
            n = document["tokens"]["n_sequences"]
            if (figure := figure_of(entry, metric, n)) is not None:
                where = {"metric": metric, "precision": variant, "sae": number}
                where |= columns_of(entry)
                found.append(Point(where, figure.value, figure.low, figure.high, n))
    if len(numbers) < 2:
        raise LackError(
            f"study precision must have two SAEs or more, got {len(numbers)}: differences are "
            "paired by SAE; make them: scopeworks sweep --store STORE --site SITE --width W "
            "--sparsity 3e-4 --sparsity 6e-4 --sparsity 1.2e-3 --out DIR"
        )
    return found


def read(points: list[Point]) -> Reading:
    """Whether the change from float32 to bfloat16 is within the margin."""
    changes = {metric: as_change(_change(points, metric)) for metric in METRICS}
    loss, fvu = changes["delta_loss"], changes["fvu"]
    n = max((change.n or 0 for change in changes.values() if change is not None), default=0)
    return Reading(
        verdict_of_all([_within(loss), _within(fvu)]),
        f"From float32 to bfloat16, Δ loss changes by {percent(loss)}, FVU by {percent(fvu)} and "
        f"L0 by {percent(changes['l0'])} over {n} SAEs; {MARGIN:.0%} would count as negligible.",
        "equivalence: t intervals over SAEs of the mean log ratio, paired by SAE on the same "
        f"sequences; the claim holds if those of Δ loss and FVU are within ±{MARGIN:.0%}, and does "
        "not if one is outside",
        {
            "margin": MARGIN,
            "change": {metric: numbers_of(change) for metric, change in changes.items()},
        },
    )


def plots(points: list[Point]) -> list[Plot]:
    """Δ loss against L0 in both precisions, a pair of curves for each site and width."""
    pairs: dict[tuple[str, int], dict[str, Curve]] = {}
    for name in TYPES:
        own = [point for point in points if point["precision"] == name]
        for slot, curve in frontiers(own, "delta_loss", "site", "width").items():
            pairs.setdefault(slot, {})[name] = curve
    slots = list(pairs)
    step = (len(slots) - 1) / (MOST_PAIRS - 1)
    shown = (
        slots if len(slots) <= MOST_PAIRS else [slots[round(i * step)] for i in range(MOST_PAIRS)]
    )
    curves = {
        f"{name}, {site}, width {width:,}" if len(slots) > 1 else name: curve
        for site, width in shown
        for name, curve in pairs[site, width].items()
    }

    def draw(axes: "Axes") -> None:
        draw_frontiers(axes, curves, "delta_loss")

    caption = (
        "Δ loss against L0, model and SAE in float32 and in bfloat16 (Figure 10). Bars: 95% "
        "intervals over sequences, which both share."
    )
    if len(shown) < len(slots):
        caption += f" {len(shown)} of {len(slots)} sites and widths, spread evenly."
    return [Plot("precision", caption, draw)]


def _change(points: Sequence[Point], metric: str) -> Quantity | None:
    """Mean log ratio of bfloat16's value to float32's, paired by SAE."""
    values: dict[str, dict[int, float]] = {name: {} for name in TYPES}
    for point in points:
        if point["metric"] == metric and point.value is not None and point.value > 0:
            values[point["precision"]][point["sae"]] = point.value
    wide, narrow = (values[name] for name in TYPES)
    ratios = [math.log(narrow[sae] / wide[sae]) for sae in narrow if sae in wide]
    return mean_of(ratios) if ratios else None


def _within(change: Quantity | None) -> Verdict:
    """Whether a relative change is within the margin."""
    if change is None or change.low is None or change.high is None:
        return "cannot be told"
    if change.low > -MARGIN and change.high < MARGIN:
        return "holds"
    outside = change.low > MARGIN or change.high < -MARGIN
    return "does not hold" if outside else "cannot be told"


STUDY = Study(
    name="precision",
    figures=("10",),
    title="Is an evaluation in bfloat16 as good as one in float32?",
    claim="Evaluating SAE and model in bfloat16 instead of float32 changes next to nothing.",
    minutes=2,
    variants=variants,
    points=points,
    read=read,
    plots=plots,
    for_saes=lambda full: {
        name: _settings(name) | ({} if full else {"n_sequences": SEQUENCES}) for name in TYPES
    },
    needs=Needs("two SAEs or more", alike=False),
)
