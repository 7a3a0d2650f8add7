"""Variants: latents with their own explanations, and the controls.

Owns which latent is scored with which explanation. Knows no scorer.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ..explain.explainers import unigrams
from ..files.explanations import Explanations
from ..samples.sample_set import Samples
from .controls import OWN, RANDOM, SHUFFLED, TOKENS, derangement


class ScoredVariant(NamedTuple):
    """Latents, and the explanation that each is scored with."""

    name: str
    samples: Samples
    texts: list[str | None]
    """By latent; None if there is no explanation."""


def variants(
    found: Explanations, samples: Samples, twin: Samples, tokenizer: object, seed: int
) -> list[ScoredVariant]:
    """Own explanations first, then the controls.

    Explanations by unigrams have no unigram control, and a single explanation cannot be shuffled.
    """
    keys = [str(latent) for latent in samples.latents.tolist()]
    own = [found.texts.get(key) for key in keys]
    result = [ScoredVariant(OWN, samples, own)]
    other = shuffled(own, seed)
    if other is not None:
        result.append(ScoredVariant(SHUFFLED, samples, other))
    result.append(ScoredVariant(RANDOM, twin, [found.twin.get(key) for key in keys]))
    if found.explainer != TOKENS:
        tables = [unigrams.text(samples, k, tokenizer) for k in range(len(keys))]
        result.append(ScoredVariant(TOKENS, samples, tables))
    return result


def shuffled(texts: Sequence[str | None], seed: int) -> list[str | None] | None:
    """Explanations exchanged between the latents that have one; None if fewer than two have."""
    at = [k for k, text in enumerate(texts) if text is not None]
    other = derangement(len(at), seed)
    if other is None:
        return None
    result: list[str | None] = [None] * len(texts)
    for k, i in zip(at, other, strict=True):
        result[k] = texts[at[i]]
    return result
