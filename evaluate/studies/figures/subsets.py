"""Subsets: what the same SAE costs on different kinds of text (Figure 9).

Of all SAEs the one with L0 nearest 100 is read, like the report's "canonical" ones.
"""

from typing import TYPE_CHECKING, Any

from ...page.entries import canonical
from ...page.svg import look
from ...study.axes import NAMES
from ...study.entries import columns_of, entries_of, figure_of
from ...study.statistics import Quantity, chosen_range, verdict_above
from ...study.study import Documents, LackError, Plot, Point, Reading, Scene, Study, Variant

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METRICS = ("delta_loss", "fvu")


def variants(_scene: Scene) -> list[Variant]:
    """The suite's own SAEs, on every subset of the held-out text."""
    return [Variant("subsets", evaluate={"subsets": True})]


def points(documents: Documents) -> list[Point]:
    """Δ loss and FVU of one SAE on every subset."""
    known = [(document, entry) for _, document, entry in entries_of(documents)]
    chosen = canonical([entry for _, entry in known])
    document = next(document for document, entry in known if entry is chosen)
    found = []
    for name, subset in sorted(document["subsets"].items()):
        (own,) = (one for one in subset["saes"] if one["name"] == chosen["name"])
        for metric in METRICS:
            n = subset["n_sequences"]
            figure = figure_of(own, metric, n)
            if figure is not None:
                where = {"metric": metric, "subset": name, "clean_loss": subset["clean_loss"]}
                where |= columns_of(chosen) | {"l0": own["l0"]}
                found.append(Point(where, figure.value, figure.low, figure.high, n))
    if len({point["subset"] for point in found}) < 2:
        raise LackError(
            "study subsets must have two subsets of the held-out text or more, got "
            f"{len(document['subsets'])}; tokenize rows with a field that names their subset: "
            "scopeworks tokenize --subset-field NAME"
        )
    return found


def read(points: list[Point]) -> Reading:
    """Whether the worst subset costs more than the best one."""
    values = _sorted(points, "delta_loss")
    (best, _), (worst, _) = values[0], values[-1]
    gap, p = chosen_range([one for _, one in values])
    shown = ", ".join(f"{name} {one}" for name, one in values)
    return Reading(
        verdict_above(gap),
        f"Δ loss in nats per token, best first: {shown}; {worst} minus {best}: {gap}"
        f"{'' if p is None else f', p = {p:.2g}'} for the widest gap of {len(values)} subsets.",
        "studentised range of the subsets, whose 95% intervals are over sequences: worst and best "
        "are chosen by these values, so their difference is compared with the largest that errors "
        "alone would give; the claim holds if its interval is above 0",
        {
            "delta_loss": {name: one.numbers() for name, one in values},
            "worst_minus_best": gap.numbers(),
            "p": None if p is None else float(f"{p:.3g}"),
        },
    )


def plots(points: list[Point]) -> list[Plot]:
    """A bar for each subset, best first."""

    def drawn(metric: str) -> Any:
        values = _sorted(points, metric)

        def draw(axes: "Axes") -> None:
            names = [name for name, _ in values]
            ys = range(len(values))
            halves = [one.half or 0.0 for _, one in values]
            widths = [one.value for _, one in values]
            axes.barh(ys, widths, xerr=halves, height=0.6, color=look(0)["color"])
            axes.set_yticks(list(ys), names)
            axes.invert_yaxis()
            axes.grid(visible=False, axis="y")
            axes.set_xlabel(NAMES[metric])

        return draw

    l0 = points[0]["l0"]
    text, bars = "by subset of the held-out text", "Bars: 95% intervals over sequences."
    return [
        Plot("delta_loss", f"Δ loss {text}, L0 {l0:.0f} (Figure 9). {bars}", drawn("delta_loss")),
        Plot("fvu", f"FVU {text}, L0 {l0:.0f}. {bars}", drawn("fvu")),
    ]


def _sorted(points: list[Point], metric: str) -> list[tuple[str, Quantity]]:
    """(subset, value), the lowest first."""
    found = [
        (point["subset"], Quantity(point.value, point.low, point.high, point.n))
        for point in points
        if point["metric"] == metric and point.value is not None
    ]
    return sorted(found, key=lambda one: one[1].value)


STUDY = Study(
    name="subsets",
    figures=("9",),
    title="Does fidelity depend on the kind of text?",
    claim="Δ loss differs between subsets of the text.",
    minutes=1,
    variants=variants,
    points=points,
    read=read,
    plots=plots,
    for_saes=lambda _full: {"saes": {"subsets": True}},
)
