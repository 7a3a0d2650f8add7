"""Transfer: a base model's SAEs on its instruction-tuned twin (Figures 8 and 19 to 23).

The claim is read on the tokens that the twin has sampled. Base SAEs are compared with SAEs of the
twin over the L0s that both reach, by Δ loss and by FVU. Every site is a unit.
"""

import math
from typing import TYPE_CHECKING, Any

from ...study.axes import draw_frontiers
from ...study.entries import columns_of, entries_of, figure_of, frontiers, layer_of
from ...study.pairs import (
    APART,
    Comparison,
    Stops,
    compared,
    counted,
    log_ratios,
    ratio_numbers,
    times,
)
from ...study.statistics import Curve, Quantity, verdict_above, verdict_below, verdict_of_all
from ...study.study import (
    Documents,
    LackError,
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

CLOSE = 1.25
"""Base SAEs' Δ loss is close to that of the twin's SAEs up to this ratio."""
DEPTHS = (0.21, 0.48, 0.74)
"""Depths of the report's layers 9, 20 and 31 of the 42 in its 9B model."""
METRICS = ("delta_loss", "fvu")
LABELS = {"delta_loss": "Δ loss", "fvu": "FVU"}
POSITIONS = ("rollout", "prompt")
MEASURED = {
    **{f"base-{one}": ("base", "twin", one, "own") for one in POSITIONS},
    **{f"twin-{one}": ("twin", "twin", one, "own") for one in POSITIONS},
    "base-at-home": ("base", "base", "prompt", "own"),
    "base-rescaled": ("base", "twin", "prompt", "base"),
}
"""Variant -> (whose SAEs, on whose activations, at which positions, with whose norms)."""


def variants(scene: Scene) -> list[Variant]:
    """SAEs of both models at three layers, on the twin's conversations.

    Base SAEs also on the base model's activations, and on the twin's at the base model's norms.
    """
    tables = [{"site": sites(scene), "width": scene.width, **_prices(scene)}]
    found = []
    for name, (saes, model, positions, norms) in MEASURED.items():
        on: Table = {"tokens": scene.rollouts, "n_sequences": scene.n_conversations}
        on["positions"] = positions
        if saes != model:
            on |= {"model": scene.twin, "other_model": True}
        if norms != "own":
            on["norms_of"] = scene.model
        own: Table = {"model": scene.twin, "text": {"packing": "chat"}} if saes == "twin" else {}
        found.append(Variant(name, sae=tables, evaluate=on, **own))
    return found


def sites(scene: Scene) -> list[str]:
    """The residual stream at three depths; of the suite's own layers, if it has three."""
    own = [layer_of(site) for site in scene.sites if site.startswith("resid_post.")]
    layers = [min(scene.n_layers - 1, round(depth * scene.n_layers)) for depth in DEPTHS]
    if len(own) >= len(layers):
        layers = [min(own, key=lambda layer: abs(layer - wanted)) for wanted in layers]
    elif own:
        nearest = min(range(len(layers)), key=lambda i: abs(layers[i] - own[0]))
        layers[nearest] = own[0]
    return [f"resid_post.{layer}" for layer in sorted(set(layers))]


def points(documents: Documents) -> list[Point]:
    """Δ loss and FVU of every SAE in every variant."""
    found = []
    for metric in METRICS:
        for variant, document, entry in entries_of(documents):
            n = document["tokens"]["n_sequences"]
            if (figure := figure_of(entry, metric, n)) is not None:
                names = ("saes", "activations", "positions", "norms")
                where = {"metric": metric} | dict(zip(names, MEASURED[variant], strict=True))
                where |= columns_of(entry)
                found.append(Point(where, figure.value, figure.low, figure.high, n))
    if not found:
        raise LackError(
            "study transfer must have SAEs of a model and of its instruction-tuned twin, got none; "
            "run it: scopeworks study transfer SUITE.toml"
        )
    return found


def read(points: list[Point]) -> Reading:
    """Whether base SAEs' Δ loss is close to that of the twin's SAEs, and their FVU farther off."""
    on_rollouts, on_prompts = (
        {metric: _ratios(points, metric, positions) for metric in METRICS}
        for positions in POSITIONS
    )
    found = {
        "delta_loss_ratio": _over_sites(on_rollouts["delta_loss"]),
        "fvu_ratio": _over_sites(on_rollouts["fvu"]),
        "fvu_ratio_over_delta_loss_ratio": _over_sites(_gaps(on_rollouts)),
        "delta_loss_ratio_on_prompts": _over_sites(on_prompts["delta_loss"]),
        "fvu_ratio_on_prompts": _over_sites(on_prompts["fvu"]),
        "fvu_on_twin_over_fvu_at_home": compared(_abroad(points, "own")),
        "fvu_on_twin_over_fvu_at_home_with_base_norms": compared(_abroad(points, "base")),
    }
    loss, fvu, gap, loss_on_prompts, fvu_on_prompts, home, rescaled = found.values()
    nowhere = Quantity(0.0)
    return Reading(
        verdict_of_all(
            [
                verdict_below(loss.mean or nowhere, math.log(CLOSE)),
                verdict_above(gap.mean or nowhere),
            ]
        ),
        f"On the twin's rollouts, base SAEs' Δ loss is {_times(loss)} that of SAEs of the twin at "
        f"equal L0, and their FVU {_times(fvu)} theirs: the FVU's ratio is {_times(gap)} the Δ "
        f"loss's. On prompts, Δ loss is {_times(loss_on_prompts)} and FVU {_times(fvu_on_prompts)} "
        "that of SAEs of the twin; base SAEs' FVU on the twin's activations is "
        f"{_times(home)} that on the base model's own, {_times(rescaled)} once the norms are "
        "scaled to the base model's.",
        "t intervals over sites of mean log ratios, each over five L0s that both frontiers reach; "
        f"the claim holds if the interval of the Δ loss ratio is below {CLOSE}, and that of the "
        "FVU ratio over the Δ loss ratio above 1",
        {name: ratio_numbers(one.mean) for name, one in found.items()}
        | {"left_out": {name: dict(one.left_out) for name, one in found.items() if one.left_out}},
    )


def plots(points: list[Point]) -> list[Plot]:
    """As the report's figures: rollouts, prompts, and base SAEs on both models' activations."""
    found = []
    for positions, metric, figure in (
        ("rollout", "delta_loss", 8),
        ("rollout", "fvu", 21),
        ("prompt", "fvu", 19),
        ("prompt", "delta_loss", 20),
    ):
        own = [p for p in points if _is(p, activations="twin", positions=positions, norms="own")]
        curves = {
            f"layer {layer_of(site)}, {saes}": curve
            for (site, saes), curve in _sorted(frontiers(own, metric, "site", "saes"))
        }
        where = {"rollout": "the twin's rollouts", "prompt": "users' prompts"}[positions]
        caption = f"{LABELS[metric]} of base and twin SAEs on {where} (Figure {figure})."
        found.append(_plot(f"{metric}-{positions}", caption, curves, metric))
    for norms, name, figure in (("own", "fvu-home", 22), ("base", "fvu-rescaled", 23)):
        curves = {
            f"layer {layer_of(site)}, on {model}": curve
            for (site, model), curve in _sorted(_both_models(points, norms))
        }
        scaled = "" if norms == "own" else ", the twin's scaled to the base model's norms"
        caption = (
            f"FVU of base SAEs on users' prompts, on both models' activations{scaled} "
            f"(Figure {figure})."
        )
        found.append(_plot(name, caption, curves, "fvu"))
    return found


def _prices(scene: Scene) -> Table:
    """The suite's prices; without `full` the first, the middle and the last."""
    if scene.full:
        return scene.prices
    return {
        name: [values[i] for i in sorted({0, len(values) // 2, len(values) - 1})]
        for name, values in scene.prices.items()
    }


def _is(point: Point, **where: Any) -> bool:
    return all(point[name] == value for name, value in where.items())


def _ratios(points: list[Point], metric: str, positions: str) -> dict[str, Stops]:
    """Site -> log of base SAEs' metric over the twin's SAEs', on the twin, at equal L0."""
    own = [p for p in points if _is(p, activations="twin", positions=positions, norms="own")]
    curves = frontiers(own, metric, "site", "saes")
    return {
        site: log_ratios(curves.get((site, "base"), []), curves.get((site, "twin"), []))
        for site in dict.fromkeys(site for site, _ in curves)
    }


def _gaps(ratios: dict[str, dict[str, Stops]]) -> dict[str, Stops]:
    """Site -> the log of the FVU's ratio over the Δ loss's."""
    found: dict[str, Stops] = {}
    for site, loss in ratios["delta_loss"].items():
        fvu = ratios["fvu"].get(site, APART)
        if isinstance(loss, str) or isinstance(fvu, str):
            found[site] = loss if isinstance(loss, str) else fvu
        else:
            found[site] = [b - a for a, b in zip(loss, fvu, strict=True)]
    return found


def _over_sites(sites: dict[str, Stops]) -> Comparison:
    return compared([one] for one in sites.values())


def _both_models(points: list[Point], norms: str) -> dict[tuple[Any, ...], Any]:
    """(site, model) -> frontier of base SAEs on prompts, by FVU."""
    own = [
        p
        for p in points
        if _is(p, saes="base", positions="prompt")
        and p["norms"] == (norms if p["activations"] == "twin" else "own")
    ]
    return frontiers(own, "fvu", "site", "activations")


def _abroad(points: list[Point], norms: str) -> list[list[Stops]]:
    """Site by site the log of every base SAE's FVU on the twin over that on its own model."""
    values: dict[tuple[Any, ...], dict[str, float]] = {}
    for p in points:
        with_norms = norms if p["activations"] == "twin" else "own"
        wanted = _is(p, metric="fvu", saes="base", positions="prompt", norms=with_norms)
        if wanted and p.value:
            slot = values.setdefault((p["site"], p["sparsity"], p["seed"], p["width"]), {})
            slot[p["activations"]] = p.value
    sites: dict[str, list[Stops]] = {}
    for (site, *_), slot in values.items():
        if len(slot) == 2:
            sites.setdefault(site, []).append([math.log(slot["twin"] / slot["base"])])
    return list(sites.values())


def _sorted(curves: dict[tuple[Any, ...], Any]) -> list[tuple[tuple[Any, ...], Any]]:
    """By layer, the base before the twin."""
    return sorted(curves.items(), key=lambda one: (layer_of(one[0][0]), one[0][1]))


def _plot(name: str, caption: str, curves: dict[str, Curve], metric: str) -> Plot:
    """One figure of frontiers."""

    def draw(axes: "Axes") -> None:
        draw_frontiers(axes, curves, metric)

    return Plot(name, f"{caption} Bars: 95% intervals over conversations.", draw)


def _times(one: Comparison) -> str:
    """A ratio in words, with its sites, what was left out, and where its sign turns."""
    if one.mean is None:
        return f"not comparable (0 sites{one.left}) with"
    turned = "".join(f", but {times(v)} at the {end} L0s" for end, v in one.turned.items())
    return f"{times(one.mean)} times ({counted(one.mean.n, 'sites')}{one.left}{turned})"


STUDY = Study(
    name="transfer",
    figures=("8", "19", "20", "21", "22", "23"),
    title="Do a base model's SAEs work on its instruction-tuned twin?",
    claim="On the instruction-tuned model, base SAEs' delta loss is close to that of SAEs trained "
    "on it, while their FVU is farther off.",
    minutes=9,
    variants=variants,
    points=points,
    read=read,
    plots=plots,
    conversations=True,
)
