"""Importance: how evenly a token's active latents matter for the next prediction (Figure 16)."""

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ...page.svg import legend, look
from ...study.axes import NAMES, draw_estimates
from ...study.entries import Entry, around, columns_of, entries_of, frontiers, of_one_seed
from ...study.statistics import Curve, Quantity, difference, verdict_below, verdict_of_all
from ...study.study import (
    Documents,
    LackError,
    Needs,
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

MEAN, BIN = "mean r_L0", "share of tokens in the bin"


def variants(scene: Scene) -> list[Variant]:
    """The three kinds of sites of the suite's layer at its prices."""
    table = {"site": scene.at_layer(), "width": scene.width, **scene.prices}
    return [Variant("attributed", sae=[table], evaluate={"importance": True})]


def points(documents: Documents) -> list[Point]:
    """Mean and histogram of r_L0 of every SAE."""
    known = [(document, entry) for _, document, entry in entries_of(documents)]
    found = [point for document, entry in known for point in _points(document, entry)]
    ladders = frontiers(found, MEAN, "site", "width", "seed").values()
    if max(map(len, ladders), default=0) < 2:
        entry = known[0][1]
        raise LackError(
            "study importance must have SAEs of two λs or more at one site, width and seed, with "
            "tokens on which latents have an effect; make them: scopeworks sweep --store STORE "
            f"--site {entry['site']} --width {entry['d_sae']} --sparsity 3e-4 --sparsity 1.2e-3 "
            "--out DIR"
        )
    return found


def read(points: list[Point]) -> Reading:
    """Whether r_L0 is below 1 and falls from the sparsest SAE to the densest of every site."""
    ladders = _ladders(points)
    curves = {name: ladders[slot] for slot, name in _names(ladders).items()}
    falls = {site: difference(c[-1][1], c[0][1]) for site, c in curves.items() if len(c) > 1}
    below = [difference(one, Quantity(1.0, 1.0, 1.0)) for c in curves.values() for _, one in c]
    parts = [
        f"{site}: {curves[site][0][1]} at L0 {curves[site][0][0]:.3g}, {curves[site][-1][1]} at L0 "
        f"{curves[site][-1][0]:.3g}"
        for site in falls
    ]
    verdicts: list[Verdict] = [verdict_below(one) for one in [*below, *falls.values()]]
    return Reading(
        verdict_of_all(verdicts),
        f"Effective over active latents, r_L0, {'; '.join(parts)}.",
        "95% intervals over tokens of every mean, which must be below 1, and of the difference "
        "between the densest and the sparsest SAE of one site and width, which must be below 0 "
        "everywhere",
        {
            site: {
                "r_l0": [[float(f"{l0:.6g}"), *one.numbers()] for l0, one in curve],
                "densest_minus_sparsest": falls[site].numbers() if site in falls else None,
            }
            for site, curve in curves.items()
        },
    )


def plots(points: list[Point]) -> list[Plot]:
    """Mean r_L0 against L0, and its distribution at the middle L0 of every site."""
    ladders = _ladders(points)
    names = _names(ladders)

    def draw_means(axes: "Axes") -> None:
        for i, (slot, curve) in enumerate(ladders.items()):
            draw_estimates(axes, curve, names[slot], i)
        axes.set_xlabel(NAMES["l0"])
        axes.set_ylabel("mean r_L0: effective over active latents")
        axes.set_ylim(0, 1)
        axes.set_xlim(left=0)
        legend(axes)

    def draw_bins(axes: "Axes") -> None:
        for i, ((site, width), curve) in enumerate(ladders.items()):
            l0 = curve[len(curve) // 2][0]
            slot = (BIN, site, width, l0)
            own = [p for p in points if (p["metric"], p["site"], p["width"], p["l0"]) == slot]
            xs = [(p["from"] + p["to"]) / 2 for p in own]
            ys = [p.value or 0.0 for p in own]
            axes.plot(xs, ys, label=f"{names[site, width]}, L0 {l0:.0f}", **look(i))
        axes.set_xlabel("r_L0 of a token")
        axes.set_ylabel("share of tokens")
        axes.set_xlim(0, 1)
        axes.set_ylim(bottom=0)
        legend(axes)

    n = max(point.n or 0 for point in points)
    bars = f"Bars: 95% intervals over {n:,} tokens."
    return [
        Plot("mean", f"r_L0 against L0 by site. {bars}", draw_means),
        Plot("distribution", f"Distribution of r_L0 over {n:,} tokens (Figure 16).", draw_bins),
    ]


def _points(document: dict[str, Any], entry: Entry) -> list[Point]:
    """One SAE's points; none if importance was not measured."""
    found = entry.get("importance")
    if not found or found["r_l0"] is None:
        return []

    def where(metric: str, low: float | None = None, high: float | None = None) -> dict[str, Any]:
        return {"metric": metric, **columns_of(entry), "from": low, "to": high}

    n = found["n_tokens"]
    mean = around(found["r_l0"], found.get("r_l0_stderr"), document["tokens"]["n_sequences"])
    counts = found.get("r_l0_histogram") or []
    bins = [
        Point(where(BIN, i / len(counts), (i + 1) / len(counts)), count / n, n=n)
        for i, count in enumerate(counts)
    ]
    return [Point(where(MEAN), mean.value, mean.low, mean.high, n), *bins]


def _ladders(points: list[Point]) -> dict[tuple[Any, ...], Curve]:
    """(site, width) -> (L0, mean r_L0), sparsest first, of one seed."""
    return of_one_seed(frontiers(points, MEAN, "site", "width", "seed"))


def _names(ladders: Iterable[tuple[Any, ...]]) -> dict[tuple[Any, ...], str]:
    """A ladder's site, with its width if the site has several."""
    n_widths = Counter(site for site, _ in ladders)
    return {
        (site, width): site if n_widths[site] == 1 else f"{site}, width {width:,}"
        for site, width in ladders
    }


STUDY = Study(
    name="importance",
    figures=("16",),
    title="How evenly do a token's active latents matter?",
    claim="A token's active latents do not matter alike: r_L0 is below 1, and the lower, the more "
    "latents are active.",
    minutes=1,
    variants=variants,
    points=points,
    read=read,
    plots=plots,
    for_saes=lambda _full: {"saes": {"importance": True}},
    needs=Needs("SAEs of two λs or more at one site and width", alike=True),
)
