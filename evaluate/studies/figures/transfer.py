"""Transfer: a base model's SAEs on its instruction-tuned twin (Figures 8 and 19 to 23).

The claim is read on the tokens that the twin has sampled: base SAEs against SAEs of the twin, at
one L0 that both reach, by Δ loss and by FVU. Every site is a unit.
"""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ...study.axes import draw_frontiers
from ...study.entries import columns_of, entries_of, figure_of, frontiers, layer_of
from ...study.statistics import (
    Estimate,
    at_l0,
    common_l0,
    mean_of,
    verdict_above,
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
    Table,
    Variant,
    Verdict,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CLOSE = 1.25
"""Base SAEs' Δ loss is close to that of the twin's SAEs up to this ratio."""
DEPTHS = (0.21, 0.48, 0.74)
"""Of the report's layers 9, 20 and 31 in the 42 of its 9B model."""
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

Curve = Sequence[tuple[float, Estimate]]


def variants(scene: Scene) -> list[Variant]:
    """SAEs of both models at three layers, on the twin's conversations; the base model's also on
    its own activations, and on the twin's at its own norms."""
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
    """The residual stream at three depths: of the suite's own layers where it has as many."""
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
    """Whether base SAEs cost the twin about as little loss as its own, and lie farther off by
    FVU."""
    ratios = {metric: _ratios(points, metric, "rollout") for metric in METRICS}
    both = [site for site in ratios["fvu"] if site in ratios["delta_loss"]]
    gaps = [ratios["fvu"][site] - ratios["delta_loss"][site] for site in both]
    loss, fvu = (_mean(list(ratios[metric].values())) for metric in METRICS)
    gap, home, rescaled = _mean(gaps), _mean(_abroad(points, "own")), _mean(_abroad(points, "base"))
    verdicts: list[Verdict] = [
        "cannot be told" if loss is None else verdict_below(loss, math.log(CLOSE)),
        "cannot be told" if gap is None else verdict_above(gap),
    ]
    loss_on_prompts, fvu_on_prompts = (
        _mean(list(_ratios(points, metric, "prompt").values())) for metric in METRICS
    )
    means = {
        "delta_loss_ratio": loss,
        "fvu_ratio": fvu,
        "fvu_ratio_over_delta_loss_ratio": gap,
        "delta_loss_ratio_on_prompts": loss_on_prompts,
        "fvu_ratio_on_prompts": fvu_on_prompts,
        "fvu_on_twin_over_fvu_at_home": home,
        "fvu_on_twin_over_fvu_at_home_with_base_norms": rescaled,
    }
    sentence = (
        f"On the twin's rollouts, base SAEs' Δ loss is {_times(loss)} that of SAEs of the twin at "
        f"equal L0 ({len(both)} sites), and their FVU {_times(fvu)} theirs: the FVU's ratio is "
        f"{_times(gap)} the Δ loss's. On prompts, base SAEs' "
        f"FVU on the twin's activations is {_times(home)} that on the base model's own, "
        f"{_times(rescaled)} once the norms are scaled to the base model's."
    )
    return Reading(
        verdict_of_all(verdicts),
        sentence,
        "t intervals of mean log ratios over sites, each at the middle of the L0s that both "
        f"frontiers reach; the claim holds if the interval of the Δ loss ratio is below {CLOSE}, "
        "and that of the FVU ratio over the Δ loss ratio above 1",
        {name: _numbers(mean) for name, mean in means.items()},
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
            f"layer {layer_of(site)}, {model}": curve
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
    """The suite's prices; at smaller sizes the first, the middle and the last."""
    if scene.full:
        return scene.prices
    return {
        name: [values[i] for i in sorted({0, len(values) // 2, len(values) - 1})]
        for name, values in scene.prices.items()
    }


def _is(point: Point, **where: Any) -> bool:
    return all(point[name] == value for name, value in where.items())


def _ratios(points: list[Point], metric: str, positions: str) -> dict[str, float]:
    """Site -> log of base SAEs' metric over the twin's SAEs', on the twin, at one L0."""
    own = [p for p in points if _is(p, activations="twin", positions=positions, norms="own")]
    curves, found = frontiers(own, metric, "site", "saes"), {}
    for site in dict.fromkeys(site for site, _ in curves):
        base, twin = curves.get((site, "base"), []), curves.get((site, "twin"), [])
        l0 = common_l0(base, twin)
        a, b = (None, None) if l0 is None else (at_l0(base, l0), at_l0(twin, l0))
        if a is not None and b is not None and min(a.value, b.value) > 0:
            found[site] = math.log(a.value / b.value)
    return found


def _both_models(points: list[Point], norms: str) -> dict[tuple[Any, ...], Any]:
    """(site, model) -> frontier of base SAEs on prompts, by FVU."""
    own = [
        p
        for p in points
        if _is(p, saes="base", positions="prompt")
        and p["norms"] == (norms if p["activations"] == "twin" else "own")
    ]
    return frontiers(own, "fvu", "site", "activations")


def _abroad(points: list[Point], norms: str) -> list[float]:
    """Site by site the mean log of a base SAE's FVU on the twin over that on its own model."""
    values: dict[tuple[Any, ...], dict[str, float]] = {}
    for p in points:
        with_norms = norms if p["activations"] == "twin" else "own"
        wanted = _is(p, metric="fvu", saes="base", positions="prompt", norms=with_norms)
        if wanted and p.value:
            slot = values.setdefault((p["site"], p["sparsity"], p["seed"], p["width"]), {})
            slot[p["activations"]] = p.value
    sites: dict[str, list[float]] = {}
    for (site, *_), slot in values.items():
        if len(slot) == 2:
            sites.setdefault(site, []).append(math.log(slot["twin"] / slot["base"]))
    return [fmean(logs) for logs in sites.values()]


def _sorted(curves: dict[tuple[Any, ...], Any]) -> list[tuple[tuple[Any, ...], Any]]:
    """By layer, the base before the twin."""
    return sorted(curves.items(), key=lambda one: (layer_of(one[0][0]), one[0][1]))


def _plot(name: str, caption: str, curves: dict[str, Curve], metric: str) -> Plot:
    """One figure of frontiers."""

    def draw(axes: "Axes") -> None:
        draw_frontiers(axes, curves, metric)

    return Plot(name, f"{caption} Bars: 95% intervals over conversations.", draw)


def _mean(logs: list[float]) -> Estimate | None:
    return mean_of(logs) if logs else None


def _times(log: Estimate | None) -> str:
    """A mean log ratio in words."""
    if log is None:
        return "not to be compared with"
    if log.low is None or log.high is None:
        return f"{math.exp(log.value):.2f} times"
    return f"{math.exp(log.value):.2f} times ({math.exp(log.low):.2f} to {math.exp(log.high):.2f})"


def _numbers(log: Estimate | None) -> list[float | None] | None:
    """A ratio with its interval."""
    if log is None:
        return None
    values = (log.value, log.low, log.high)
    return [None if v is None else float(f"{math.exp(v):.6g}") for v in values]


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
