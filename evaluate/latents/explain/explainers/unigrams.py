"""The `tokens` explainer: names the tokens at which a latent fires. No language model."""

import numpy as np

from ...samples.sample_set import Samples
from ..shown import quoted, words

_MOST, _FEWEST = 8, 0.02
"""Tokens that are named at most, and the share of the firings that any but the first must have."""


def text(samples: Samples, k: int, tokenizer: object) -> str | None:
    """A sentence about latent k; None where it never fires in the half that explains."""
    firings = samples.unigrams.firings(k)
    if not firings:
        return None
    parts, told = [], 0.0
    for token, fired, rows, _ in samples.unigrams.top(k, _MOST):
        share, always = fired / firings, fired / rows
        if parts and share < _FEWEST:
            break
        (word,) = words(tokenizer, np.array([token]))
        of, at = ("", "") if parts else (" of its firings", " of such tokens")
        parts.append(f"{quoted(word)} ({share:.0%}{of}, {always:.0%}{at})")
        told += share
    rest = f"; {1 - told:.0%} on others" if told < 1 - _FEWEST else ""
    return f"fires on {', '.join(parts)}{rest}"
