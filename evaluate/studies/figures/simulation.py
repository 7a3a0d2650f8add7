"""Simulation: how well activations are predicted from an explanation (Figure 7).

Owns the comparison of Pearson's r between predicted and true activations with that of latents of an
SAE that was never trained and that fire as often. r comes beside the evaluations, from whatever
simulator was at hand.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...page.svg import legend, look
from ...study.entries import columns_of, entries_of
from ...study.statistics import Quantity, mean_of, verdict_above, verdict_of_all
from ...study.study import Documents, LackError, Plot, Point, Reading, Scene, Study, Variant

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MEAN, LATENT, ENOUGH = "mean r", "r of a latent", "share of latents that fire often enough"
OWN, SHUFFLED, RANDOM = "own", "shuffled", "random"
KINDS = (OWN, SHUFFLED, RANDOM)
"""A latent with its own explanation; with another latent's; a latent of an SAE that was never
trained, with its own."""
VIOLINS = {OWN: "trained", RANDOM: "never trained"}


def variants(scene: Scene) -> list[Variant]:
    """The three kinds of sites of the suite's layer, at one width and λ."""
    table = {"site": scene.at_layer(), "width": scene.width, "sparsity": scene.sparsity}
    return [Variant("simulated", sae=[table])]


def points(documents: Documents) -> list[Point]:
    """r of every latent, and its mean by SAE and by what it is of."""
    found = []
    for _, document, entry in entries_of(documents):
        own = document["simulation"]
        columns = {"simulator": own["simulator"], **columns_of(entry)}
        columns |= {"latent": None, "density": None}
        share = own["fire_enough"] / entry["d_sae"]
        found.append(Point({"metric": ENOUGH, "of": None, **columns}, share, n=entry["d_sae"]))
        for kind in KINDS:
            known = [one for one in own["latents"] if one[kind] is not None]
            if len(known) < 2:
                raise LackError(
                    "study simulation must have two latents or more in each SAE that fire often "
                    f"enough, got {len(known)} of {entry['name']}; take more rows: --set "
                    "harvest.rows=…"
                )
            values = [one[kind] for one in known]
            mean = mean_of(values)
            where = {"metric": MEAN, "of": kind, **columns}
            found.append(Point(where, mean.value, mean.low, mean.high, mean.n))
            for one, value in zip(known, values, strict=True):
                own_place = {"latent": one["latent"], "density": one["density"]}
                found.append(Point(where | {"metric": LATENT} | own_place, value))
    return found


def read(points: list[Point]) -> Reading:
    """Whether r is higher than of an SAE that was never trained, for every SAE."""
    means = {kind: _means(points, kind) for kind in KINDS}
    gaps, shuffled = (
        {site: _paired(points, kind, site) for site in means[OWN]} for kind in (RANDOM, SHUFFLED)
    )
    enough = {p["site"]: p.value or 0.0 for p in points if p["metric"] == ENOUGH}
    parts = [
        f"{site} {means[OWN][site]}, never trained {means[RANDOM][site]}, with another latent's "
        f"explanation {means[SHUFFLED][site]} (of its latents {enough[site]:.0%} fire often enough)"
        for site in gaps
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
            site: {
                **{kind: means[kind][site].numbers() for kind in KINDS},
                "own_minus_random": gaps[site].numbers(),
                "own_minus_shuffled": shuffled[site].numbers(),
            }
            for site in gaps
        },
    )


def plots(points: list[Point]) -> list[Plot]:
    """Violins by SAE, and r against firing frequency."""
    sites = list(_means(points, OWN))

    def violins(axes: "Axes") -> None:
        for i, kind in enumerate(VIOLINS):
            for k, site in enumerate(sites):
                shift = 0.2 * (2 * i - 1)
                _violin(axes, _values(points, kind, site), k + shift, look(i)["color"])
                mean = _means(points, kind)[site]
                half = mean.half or 0.0
                style: dict[str, Any] = look(i) | {"linestyle": "none"}
                label = VIOLINS[kind] if k == 0 else None
                axes.errorbar([k + shift], [mean.value], yerr=[half], label=label, **style)
        axes.set_xticks(range(len(sites)), sites)
        axes.set_xlim(-0.5, len(sites) - 0.5)
        axes.grid(visible=False, axis="x")
        axes.set_ylabel("Pearson r")
        legend(axes)

    def frequency(axes: "Axes") -> None:
        for i, site in enumerate(sites):
            own = [p for p in _latents(points, OWN, site) if p["density"] > 0]
            style: dict[str, Any] = look(i) | {"linestyle": "none", "markersize": 4}
            values = [p.value or 0.0 for p in own]
            axes.plot([p["density"] for p in own], values, label=site, **style)
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


def _violin(axes: "Axes", values: Sequence[float], x: float, colour: str) -> None:
    """A density's outline, as wide as the values lie dense."""
    if len(set(values)) < 2:
        return
    for body in axes.violinplot([values], [x], widths=0.36, showextrema=False)["bodies"]:  # pyright: ignore
        body.set(facecolor=colour, alpha=0.25, edgecolor=colour)


def _latents(points: list[Point], kind: str, site: str) -> list[Point]:
    """Points of single latents."""
    key = (LATENT, kind, site)
    return [p for p in points if (p["metric"], p["of"], p["site"]) == key]


def _values(points: list[Point], kind: str, site: str) -> list[float]:
    """r of single latents."""
    return [p.value for p in _latents(points, kind, site) if p.value is not None]


def _paired(points: list[Point], kind: str, site: str) -> Quantity:
    """Mean over latents of their own r minus another, with Student's t interval."""
    own, other = (
        {p["latent"]: p.value or 0.0 for p in _latents(points, one, site)} for one in (OWN, kind)
    )
    return mean_of([r - other[latent] for latent, r in own.items() if latent in other])


def _means(points: list[Point], kind: str) -> dict[str, Quantity]:
    """Site -> mean r."""
    return {
        p["site"]: Quantity(p.value, p.low, p.high, p.n)
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
