"""The `tokens` explainer: names the tokens at which a latent fires. No language model."""

import numpy as np

from ...samples.sample_set import Samples
from ..shown import quoted, words

_MOST, _FEWEST = 8, 0.02
"""Most tokens that are named; the least share of the firings of each after the first."""


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
