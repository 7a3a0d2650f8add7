"""How far raters agree: Krippendorff's alpha for ordered answers.

Owns the coefficient and its interval. A pair of answers counts by how many answers lie between the
two (the ordinal metric of Krippendorff, "Content Analysis", chapter 11), and alpha is 1 minus the
disagreement that is seen over that which chance gives: 1 where all agree, 0 at chance.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

DRAWS = 2000
FEWEST = 10
"""Latents that an interval needs."""


@dataclass(frozen=True)
class Agreement:
    """Agreement of several raters.

    Attributes:
        alpha: None where it is not defined: no latent has two answers, or all answers are equal.
        low, high: of the 95% bootstrap interval over latents; None with fewer than `FEWEST`.
        n: latents that two raters or more have answered.
    """

    alpha: float | None
    low: float | None
    high: float | None
    n: int


def agreement(counts: Int[np.ndarray, "latents answers"]) -> Agreement:
    """Agreement by how many raters gave each latent each answer.

    Args:
        counts: answers in their order along the second axis. Latents with one answer tell nothing
            of agreement and are left out.
    """
    counts = counts[counts.sum(1) > 1]
    n = len(counts)
    if n == 0:
        return Agreement(None, None, None, 0)
    pairs = _pairs(counts).reshape(n, -1)
    size = counts.shape[1]
    alpha = _alphas(pairs.sum(0).reshape(1, size, size))[0]
    if np.isnan(alpha):
        return Agreement(None, None, None, n)
    if n < FEWEST:
        return Agreement(float(alpha), None, None, n)
    drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), DRAWS)
    low, high = np.nanquantile(_alphas((drawn @ pairs).reshape(-1, size, size)), [0.025, 0.975])
    return Agreement(float(alpha), float(low), float(high), n)


def _pairs(
    counts: Int[np.ndarray, "latents answers"],
) -> Float[np.ndarray, "latents answers answers"]:
    """Every latent's pairs of answers by different raters, (c, k), each weighted by 1 / (m − 1)
    for m answers: Krippendorff's coincidences."""
    size = counts.shape[1]
    each = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(size)
    return each / (counts.sum(1) - 1)[:, None, None]


def _alphas(
    coincidences: Float[np.ndarray, "draws answers answers"],
) -> Float[np.ndarray, " draws"]:
    """Alpha of each matrix of coincidences; NaN where all answers are equal."""
    totals = coincidences.sum(2)
    n = totals.sum(1)
    middle = np.cumsum(totals, 1) - totals / 2
    distance = (middle[:, :, None] - middle[:, None, :]) ** 2
    seen = (coincidences * distance).sum((1, 2))
    chance = (totals[:, :, None] * totals[:, None, :] * distance).sum((1, 2))
    known = chance > 0
    alphas = np.full(len(n), np.nan)
    alphas[known] = 1 - (n[known] - 1) * seen[known] / chance[known]
    return alphas
