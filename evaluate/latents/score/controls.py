"""What every score is read beside.

Owns the shuffle of explanations, and what the controls are called.
"""

import numpy as np

OWN, SHUFFLED, RANDOM, TOKENS = "own", "shuffled", "random", "tokens"
"""The latent with its own explanation; with another latent's; a latent of an SAE that was never
trained, with its own; and with the explanation that a token-unigram table gives."""


def derangement(n: int, seed: int) -> list[int] | None:
    """Another place for each of n places, none its own; None for a single one.

    Places stand in a random circle, and each gets the next one's.
    """
    if n < 2:
        return None
    circle = np.random.default_rng([seed, n]).permutation(n)
    other = np.empty(n, dtype=np.int64)
    other[circle] = np.roll(circle, -1)
    return other.tolist()
