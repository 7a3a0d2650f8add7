"""Draws the contexts that explain a latent and those that test: a pure function of the peaks.

Owns the draws. Contexts are known by their numbers.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int

from .contexts import Contexts
from .sample_set import EXPLAIN, HARD, SILENT, TEST, UnigramTable
from .settings import SampleSettings

Part = tuple[int, Int[np.ndarray, " n"], Int[np.ndarray, " n"]]
"""Kind, band of each context, number of each context."""


def draw(
    latent: int,
    k: int,
    peaks: Float[np.ndarray, " contexts"],
    found: Contexts,
    unigrams: UnigramTable,
    settings: SampleSettings,
) -> Iterator[Part]:
    """The contexts of one latent, kind by kind.

    Args:
        latent: its number in the SAE; it seeds the draws, so other latents do not change them.
        k: its number in `unigrams`.
        peaks: its largest activation in each context.
        found: the contexts.
        unigrams: the latents' activations by token.
        settings: how many contexts.
    """
    rng = np.random.default_rng([settings.seed, latent])
    fires, tests = peaks > 0, found.tests
    for kind, half, n in ((EXPLAIN, ~tests, settings.explain), (TEST, tests, settings.test)):
        yield kind, *_banded(peaks, fires & half, n, settings.quantiles, rng)
    taken = _drawn(~fires & tests, settings.silent, rng)
    yield SILENT, np.zeros(len(taken), dtype=np.int64), taken
    if settings.hard:
        top = [token for token, *_ in unigrams.top(k)]
        near = np.isin(found.tokens, top).any(1) & ~fires & tests
        near[taken] = False
        taken = _drawn(near, settings.hard, rng)
        yield HARD, np.zeros(len(taken), dtype=np.int64), taken


def _banded(
    peaks: Float[np.ndarray, " contexts"],
    allowed: Bool[np.ndarray, " contexts"],
    n: int,
    bands: int,
    rng: np.random.Generator,
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """About n / bands contexts of each band of strength, by falling peak: (bands, contexts).

    Of a band with fewer contexts, all are taken.
    """
    at = np.flatnonzero(allowed)
    at = at[np.argsort(-peaks[at], kind="stable")]
    shares = [len(part) for part in np.array_split(np.arange(n), bands)]
    band, number = [], []
    for i, (part, share) in enumerate(zip(np.array_split(at, bands), shares, strict=True)):
        chosen = rng.permutation(len(part))[:share]
        number.append(part[np.sort(chosen)])
        band.append(np.full(len(chosen), i + 1))
    return np.concatenate(band), np.concatenate(number)


def _drawn(
    allowed: Bool[np.ndarray, " contexts"], n: int, rng: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """n allowed contexts, drawn uniformly, in order; all if there are fewer."""
    at = np.flatnonzero(allowed)
    return np.sort(at[rng.permutation(len(at))[:n]])
