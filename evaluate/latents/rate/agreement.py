"""How far raters agree: Krippendorff's alpha for ordered answers.

Owns the coefficient and its interval (Krippendorff, "Content Analysis", chapter 11).

    alpha = 1 − (observed disagreement) / (disagreement by chance)

Alpha is 1 if all raters agree, and 0 if they agree as often as by chance. Two answers disagree by
how many of all answers are between them on the scale (the ordinal metric).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

DRAWS = 2000
FEWEST = 10
"""The fewest latents for which an interval is given."""


@dataclass(frozen=True)
class Agreement:
    """Agreement of several raters.

    Attributes:
        alpha: None if it is not defined: no latent has two answers, or all answers are equal.
        low, high: ends of the 95% bootstrap interval over latents; None with fewer latents than
            `FEWEST`.
        n: latents that two raters or more have answered.
    """

    alpha: float | None
    low: float | None
    high: float | None
    n: int


def agreement(counts: Int[np.ndarray, "latents answers"]) -> Agreement:
    """Agreement of raters.

    Args:
        counts: how many raters gave each latent each answer, the answers in their order. Latents
            with one rater or none are left out.
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
    """Each latent's part of Krippendorff's coincidence matrix o[c, k]."""
    # Pairs of answers (c, k) by different raters: n_c · n_k, or n_c · (n_c − 1) if c = k. A latent
    # with m answers has m (m − 1) pairs; the weight 1 / (m − 1) makes them count as m.
    size = counts.shape[1]
    each = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(size)
    return each / (counts.sum(1) - 1)[:, None, None]


def _alphas(
    coincidences: Float[np.ndarray, "draws answers answers"],
) -> Float[np.ndarray, " draws"]:
    """Alpha of each coincidence matrix; NaN if all its answers are equal.

    alpha = 1 − (n − 1) · Σ o[c, k] · δ²[c, k] / Σ n_c · n_k · δ²[c, k], with n_c = Σ_k o[c, k] and
    n = Σ n_c; both other sums are over c and k.
    """
    totals = coincidences.sum(2)
    n = totals.sum(1)
    # δ[c, k] = n_c / 2 + (all answers between c and k) + n_k / 2: the distance of middle ranks.
    middle = np.cumsum(totals, 1) - totals / 2
    distance = (middle[:, :, None] - middle[:, None, :]) ** 2
    seen = (coincidences * distance).sum((1, 2))
    chance = (totals[:, :, None] * totals[:, None, :] * distance).sum((1, 2))
    known = chance > 0
    alphas = np.full(len(n), np.nan)
    alphas[known] = 1 - (n[known] - 1) * seen[known] / chance[known]
    return alphas
