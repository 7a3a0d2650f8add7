"""Simulation: how well activations are predicted from an explanation (Figure 7).

Owns the comparison of Pearson's r between predicted and true activations with the r of latents of
an SAE that was never trained and that fire as often. The caller's simulator computes r; it comes
with the evaluations.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ...page.svg import legend, look
from ...study.entries import Entry, columns_of, entries_of, place_of, told_apart
from ...study.statistics import Quantity, mean_of, verdict_above, verdict_of_all
from ...study.study import Documents, LackError, Plot, Point, Reading, Scene, Study, Variant

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MEAN, LATENT, ENOUGH = "mean r", "r of a latent", "share of latents that fire often enough"
OWN, SHUFFLED, RANDOM = "own", "shuffled", "random"
KINDS = (OWN, SHUFFLED, RANDOM)
"""A latent with its own explanation; a latent with another latent's explanation; a latent of an SAE
that was never trained, with its own."""
VIOLINS = {OWN: "trained", RANDOM: "never trained"}


def variants(scene: Scene) -> list[Variant]:
    """The three kinds of sites of the suite's layer, at one width and λ."""
    table = {"site": scene.at_layer(), "width": scene.width, "sparsity": scene.sparsity}
    return [Variant("simulated", sae=[table])]


def points(documents: Documents) -> list[Point]:
    """r of every latent, and its mean by SAE and by kind (KINDS)."""
    known = [(document, entry) for _, document, entry in entries_of(documents)]
    names = told_apart((place_of(entry), entry["d_sae"], entry["name"]) for _, entry in known)
    return [
        point
        for name, (document, entry) in zip(names, known, strict=True)
        for point in _points(name, document["simulation"], entry)
    ]


def _points(name: str, own: dict[str, Any], entry: Entry) -> Iterator[Point]:
    """One SAE's."""
    columns = {"sae": name, "simulator": own["simulator"], **columns_of(entry)}
    columns |= {"latent": None, "density": None}
    if own["fire_enough"] is not None:
        share = own["fire_enough"] / entry["d_sae"]
        yield Point({"metric": ENOUGH, "of": None, **columns}, share, n=entry["d_sae"])
    for kind in KINDS:
        known = [one for one in own["latents"] if None not in (one[OWN], one[kind])]
        if len(known) < 2:
            raise LackError(
                "study simulation must have two latents or more in each SAE whose r is known, got "
                f"{len(known)} of {name} ({kind}); take more rows: --set harvest.rows=…, or score "
                "more latents"
            )
        values = [one[kind] for one in known]
        mean = mean_of(values)
        where = {"metric": MEAN, "of": kind, **columns}
        yield Point(where, mean.value, mean.low, mean.high, mean.n)
        for one, value in zip(known, values, strict=True):
            own_place = {"latent": one["latent"], "density": one["density"]}
            yield Point(where | {"metric": LATENT} | own_place, value)


def read(points: list[Point]) -> Reading:
    """Whether every SAE's r is higher than that of an SAE that was never trained."""
    means = {kind: _means(points, kind) for kind in KINDS}
    gaps, shuffled = (
        {name: _paired(points, kind, name) for name in means[OWN]} for kind in (RANDOM, SHUFFLED)
    )
    enough = {
        p["sae"]: f" (of its latents {p.value or 0.0:.0%} fire often enough)"
        for p in points
        if p["metric"] == ENOUGH
    }
    parts = [
        f"{name} {means[OWN][name]}, never trained {means[RANDOM][name]}, with another latent's "
        f"explanation {means[SHUFFLED][name]}{enough.get(name, '')}"
        for name in gaps
    ]
    n = sum(one.n or 0 for one in means[OWN].values())
    return Reading(
        verdict_of_all([verdict_above(one) for one in gaps.values()]),
        f"Mean Pearson r over {n} latents, predicted by {points[0]['simulator']}: "
        f"{'; '.join(parts)}.",
        "95% t intervals over latents of each mean, and of the mean difference between a latent "
        "and one of an SAE that was never trained which fires as often; the claim holds if that is "
        "above 0 for every SAE, and does not if it is below for one",
        {
            name: {
                **{kind: means[kind][name].numbers() for kind in KINDS},
                "own_minus_random": gaps[name].numbers(),
                "own_minus_shuffled": shuffled[name].numbers(),
            }
            for name in gaps
        },
    )


def plots(points: list[Point]) -> list[Plot]:
    """Violins by SAE, and r against firing frequency."""
    names = list(_means(points, OWN))

    def violins(axes: "Axes") -> None:
        for i, kind in enumerate(VIOLINS):
            for k, name in enumerate(names):
                shift = 0.2 * (2 * i - 1)
                _violin(axes, _latents(points, kind, name), k + shift, look(i)["color"])
                mean = _means(points, kind)[name]
                half = mean.half or 0.0
                style: dict[str, Any] = look(i) | {"linestyle": "none"}
                label = VIOLINS[kind] if k == 0 else None
                axes.errorbar([mean.value], [k + shift], xerr=[half], label=label, **style)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("Pearson r")
        legend(axes)

    def frequency(axes: "Axes") -> None:
        for i, name in enumerate(names):
            own = [p for p in _latents(points, OWN, name) if p["density"] > 0]
            style: dict[str, Any] = look(i) | {"linestyle": "none", "markersize": 4}
            values = [p.value or 0.0 for p in own]
            axes.plot([p["density"] for p in own], values, label=name, **style)
        axes.set_xscale("log")
        axes.set_xlabel("share of rows in which it fires (log scale)")
        axes.set_ylabel("Pearson r")
        legend(axes)

    shown = f"Pearson r between predicted and true activations, by {points[0]['simulator']}"
    return [
        Plot(
            "violin",
            f"{shown} (Figure 7). Marks: means; bars: 95% intervals over latents.",
            violins,
        ),
        Plot("frequency", f"{shown}, against firing frequency.", frequency),
    ]


def _violin(axes: "Axes", own: Sequence[Point], y: float, colour: str) -> None:
    """A violin: an outline whose width is the density of the values."""
    values = [point.value or 0.0 for point in own]
    if len(set(values)) < 2:
        return
    parts: Any = axes.violinplot(
        [values], [y], orientation="horizontal", widths=0.36, showextrema=False
    )
    for body in parts["bodies"]:
        body.set(facecolor=colour, alpha=0.25, edgecolor=colour)


def _latents(points: list[Point], kind: str, name: str) -> list[Point]:
    """Points of single latents."""
    key = (LATENT, kind, name)
    return [p for p in points if (p["metric"], p["of"], p["sae"]) == key]


def _paired(points: list[Point], kind: str, name: str) -> Quantity:
    """Mean over latents of their own r minus another, with Student's t interval."""
    own, other = (
        {p["latent"]: p.value or 0.0 for p in _latents(points, one, name)} for one in (OWN, kind)
    )
    return mean_of([r - other[latent] for latent, r in own.items() if latent in other])


def _means(points: list[Point], kind: str) -> dict[str, Quantity]:
    """SAE -> mean r."""
    return {
        p["sae"]: Quantity(p.value, p.low, p.high, p.n)
        for p in points
        if p["metric"] == MEAN and p["of"] == kind and p.value is not None
    }


STUDY = Study(
    name="simulation",
    figures=("7",),
    title="Can a latent's activations be predicted from an explanation?",
    claim="Activations of a trained SAE's latents are predicted better than those of an SAE that "
    "was never trained.",
    minutes=2,
    variants=variants,
    points=points,
    read=read,
    plots=plots,
)
