"""One latent's figures from a scorer's answers on its test contexts, with 95% intervals.

Owns Pearson's r, AUROC and balanced accuracy, and the bootstrap over sequences. A sequence is one
draw, because its contexts and their tokens are not independent of each other.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

DRAWS = 1000
"""Bootstrap draws behind an interval."""
MIN_SEQUENCES = 8
"""Fewer sequences of firing contexts, or of silent ones, give no interval."""

_Z = 1.959964


class Figure(NamedTuple):
    """A figure and its 95% interval."""

    value: float | None
    """None if it is not defined, for example without a context in which the latent fires."""
    interval: list[float] | None = None
    """[low, high]: 2.5% and 97.5% quantiles of a bootstrap over sequences, of firing and of silent
    contexts separately. Widened by Wilson's interval where a share is 0 or 1."""


@dataclass(frozen=True)
class Judged:
    """A yes or no for every context."""

    fires: Bool[np.ndarray, " n"]
    """The truth."""
    said: Float[np.ndarray, " n"]
    """1 yes, 0 no, NaN without a usable answer."""
    sequence: Int[np.ndarray, " n"]
    """The sequence of each context."""
    left_out: int = 0
    """Contexts that no question could be made of."""


@dataclass(frozen=True)
class Simulated:
    """A number for every token of every context."""

    fires: Bool[np.ndarray, " n"]
    f: Float[np.ndarray, "n context"]
    """True activations; NaN at tokens that do not count."""
    predicted: Float[np.ndarray, "n context"]
    """In any unit; NaN in contexts without a usable answer."""
    sequence: Int[np.ndarray, " n"]
    """The sequence of each context."""


Evidence = Judged | Simulated


def figures(evidence: Evidence, seed: int) -> dict[str, Figure]:
    """All figures of a latent, the main one first.

    `Judged` gives `balanced_accuracy`: the mean of the shares of firing and of silent contexts that
    were judged right; 0.5 is chance. `Simulated` gives `r` over all tokens, and `auroc`: the
    probability that a firing context's largest prediction is above a silent one's; ties count half.
    """
    if isinstance(evidence, Judged):
        return {"balanced_accuracy": balanced_accuracy(evidence, seed)}
    return {"r": pearson(evidence, seed), "auroc": auroc(evidence, seed)}


def pearson(evidence: Simulated, seed: int) -> Figure:
    """r = cov(p, f) / sqrt(var p · var f) over all tokens of all answered contexts.

    0 if all predictions are equal, because they explain nothing; None if f is constant.
    """
    counts = ~np.isnan(evidence.f) & ~np.isnan(evidence.predicted)
    p, f = (np.where(counts, v, 0.0).astype(np.float64) for v in (evidence.predicted, evidence.f))
    if not counts.any():
        return Figure(None)
    # Centred first, so that sums of squares lose no digits to the mean.
    p, f = ((v - v[counts].mean()) * counts for v in (p, f))
    sums = np.stack([v.sum(1) for v in (counts * 1.0, p, f, p * p, f * f, p * f)], axis=1)
    weights = _weights(evidence, np.any(counts, axis=1), seed)
    return _figure(_r(sums.sum(0)[None])[0], _r(weights @ sums) if weights is not None else None)


def auroc(evidence: Simulated, seed: int) -> Figure:
    """The probability that a firing context's largest prediction is above a silent one's."""
    counts = ~np.isnan(evidence.f) & ~np.isnan(evidence.predicted)
    peak = np.where(counts, evidence.predicted, -np.inf).max(axis=1, initial=-np.inf)
    answered = np.any(counts, axis=1)
    yes, no = answered & evidence.fires, answered & ~evidence.fires
    above = np.sign(peak[yes][:, None] - peak[no][None]) / 2 + 0.5
    if not above.size:
        return Figure(None)
    weights = _weights(evidence, answered, seed)
    if weights is None:
        return _figure(above.mean(), None)
    a, b = weights[:, yes], weights[:, no]
    found = _figure(above.mean(), (a @ above * b).sum(1) / (a.sum(1) * b.sum(1)))
    n = min(len(np.unique(evidence.sequence[at])) for at in (yes, no))
    return _widened(found, [_unseen(above.mean(), n)])


def balanced_accuracy(evidence: Judged, seed: int) -> Figure:
    """(share of firing contexts judged yes + share of silent contexts judged no) / 2."""
    answered = ~np.isnan(evidence.said)
    right = (evidence.said == 1) == evidence.fires
    yes, no = answered & evidence.fires, answered & ~evidence.fires
    if not yes.any() or not no.any():
        return Figure(None)
    value = (right[yes].mean() + right[no].mean()) / 2
    weights = _weights(evidence, answered, seed)
    if weights is None:
        return _figure(value, None)
    shares = [weights[:, at] @ right[at] / weights[:, at].sum(1) for at in (yes, no)]
    unseen = [
        _unseen(right[at].mean(), len(np.unique(evidence.sequence[at]))) / 2 for at in (yes, no)
    ]
    return _widened(_figure(value, (shares[0] + shares[1]) / 2), unseen)


def _unseen(share: float, n: int) -> float:
    """How far the truth may be from a share of n draws that is 0 or 1, with a sign.

    It is the length of Wilson's 95% interval, whose other end is the share itself. 0 for any other
    share, whose spread the bootstrap shows.
    """
    width = _Z**2 / (n + _Z**2)
    return width if share == 0 else -width if share == 1 else 0.0


def _widened(found: Figure, unseen: list[float]) -> Figure:
    """The figure with its interval widened by independent errors that the bootstrap cannot show.

    Squares of errors add, on each side.
    """
    if found.value is None or found.interval is None:
        return found
    up, down = (math.hypot(*(max(0.0, sign * one) for one in unseen)) for sign in (1, -1))
    low, high = found.interval
    return Figure(
        found.value,
        [
            found.value - math.hypot(found.value - low, down),
            found.value + math.hypot(high - found.value, up),
        ],
    )


def _r(sums: Float[np.ndarray, "draws 6"]) -> Float[np.ndarray, " draws"]:
    """r of (n, Σp, Σf, Σp², Σf², Σpf); 0 where p is constant, NaN where f is."""
    n, p, f, pp, ff, pf = sums.T
    var_p, var_f = n * pp - p * p, n * ff - f * f
    # A constant leaves only rounding errors.
    flat_p, flat_f = var_p <= 1e-12 * n * pp, var_f <= 1e-12 * n * ff
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (n * pf - p * f) / np.sqrt(var_p * var_f)
    return np.where(flat_f, np.nan, np.where(flat_p, 0.0, r))


def _weights(
    evidence: Evidence, answered: Bool[np.ndarray, " n"], seed: int
) -> Float[np.ndarray, "draws n"] | None:
    """How often each bootstrap draw takes each context: as often as its sequence.

    Sequences of firing contexts and of silent ones are drawn separately, as many as there are. None
    if there are too few for an interval.
    """
    rng = np.random.default_rng(seed)
    weights = np.zeros((DRAWS, len(answered)))
    for kind in (evidence.fires, ~evidence.fires):
        at = np.flatnonzero(answered & kind)
        sequences, which = np.unique(evidence.sequence[at], return_inverse=True)
        n = len(sequences)
        if n < MIN_SEQUENCES:
            return None
        weights[:, at] = rng.multinomial(n, np.full(n, 1 / n), DRAWS)[:, which]
    return weights


def _figure(value: float, draws: Float[np.ndarray, " draws"] | None) -> Figure:
    """A figure from its value and its bootstrap draws."""
    if math.isnan(value):
        return Figure(None)
    if draws is None or np.isnan(draws).any():
        return Figure(float(value))
    low, high = np.quantile(draws, [0.025, 0.975])
    return Figure(float(value), [float(low), float(high)])
