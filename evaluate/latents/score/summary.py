"""Means over latents, by stratum of firing frequency, beside every control; and the printed table.

A latent is one draw: an interval is for other latents of the stratum.
"""

from collections.abc import Iterator, Mapping

import torch

from ...measure.intervals import ratio
from ..files.explanations import LatentScore, Scores, Stratum, Value
from .controls import OWN

EDGES = (0.1, 0.01, 0.001, 0.0001)
_NAMES = ("≥ 10%", "1–10%", "0.1–1%", "0.01–0.1%", "< 0.01%")
_CHANCE = {"balanced_accuracy": "0.5 is chance", "r": "0 is chance", "auroc": "0.5 is chance"}

Figures = Mapping[str, Mapping[str, Value]]


def strata(latents: Mapping[str, LatentScore], metrics: list[str]) -> list[Stratum]:
    """All latents, then those of each range of firing frequency that has latents."""
    groups = {"all": list(latents.values())}
    for score in latents.values():
        which = sum(score.density < edge for edge in EDGES)
        groups.setdefault(_NAMES[which], []).append(score)
    names = ["all", *(name for name in _NAMES if name in groups)]
    variants = list(dict.fromkeys(v for score in latents.values() for v in score.figures))
    return [_stratum(name, groups[name], variants, metrics) for name in names]


def _stratum(name: str, scores: list[LatentScore], names: list[str], metrics: list[str]) -> Stratum:
    means = {
        variant: {metric: mean(values(scores, variant, metric)) for metric in metrics}
        for variant in names
    }
    above = {
        variant: {metric: mean(_differences(scores, variant, metric)) for metric in metrics}
        for variant in names
        if variant != OWN
    }
    return Stratum(name=name, n=len(values(scores, OWN, metrics[0])), means=means, above=above)


def values(scores: list[LatentScore], variant: str, metric: str) -> list[float]:
    """A variant's values, of the latents that have one."""
    found = (_value(score, variant, metric) for score in scores)
    return [value for value in found if value is not None]


def _differences(scores: list[LatentScore], variant: str, metric: str) -> list[float]:
    """Own minus control, of the latents that have both."""
    pairs = ((_value(s, OWN, metric), _value(s, variant, metric)) for s in scores)
    return [own - other for own, other in pairs if own is not None and other is not None]


def _value(score: LatentScore, variant: str, metric: str) -> float | None:
    figure = score.figures.get(variant, {}).get(metric)
    return None if figure is None else figure.value


def mean(found: list[float]) -> Value:
    """A mean with its 95% interval by Student's t; none with fewer than 16 latents."""
    if not found:
        return Value(value=None)
    estimate = ratio(torch.tensor(found, dtype=torch.float64), torch.ones(len(found)).double())
    return Value(value=estimate.value, interval=estimate.interval)


def table(scores: Scores) -> Iterator[str]:
    """The scores as text: a line per stratum, own and controls side by side."""
    metric = scores.metrics[0]
    names = list(scores.strata[0].means)
    yield (
        f"{scores.scorer}: {metric.replace('_', ' ')} ({_CHANCE[metric]}), explanations by "
        f"{scores.explainer}, predicted by {scores.by}"
    )
    yield (
        f"{'tokens it fires at':<20} {'latents':>7}"
        + "".join(f" {n:>14}" for n in names)
        + ("  own − controls" if len(names) > 1 else "")
    )
    for stratum in scores.strata:
        cells = [f" {_cell(stratum.means[name][metric]):>14}" for name in names]
        beside = [f"{_cell(stratum.above[name][metric])} {name}" for name in names[1:]]
        yield f"{stratum.name:<20} {stratum.n:>7}{''.join(cells)}  {', '.join(beside)}"
    without = len(scores.latents) - scores.strata[0].n
    if without:
        why = "they fire in no test context, have no explanation, or too few answers"
        yield f"{without} latents have no score: {why}"
    if scores.failed:
        yield f"{scores.failed:,} test contexts could not be judged: their answers were nonsense"
    if scores.left_out:
        yield (
            f"{scores.left_out:,} test contexts were left out: their marks cannot be moved to "
            "tokens at which the latent is silent"
        )


def _cell(value: Value) -> str:
    """A mean and half its interval."""
    if value.value is None:
        return "–"
    if value.interval is None:
        return f"{value.value:.3f}"
    return f"{value.value:.3f} ±{(value.interval[1] - value.interval[0]) / 2:.3f}"
