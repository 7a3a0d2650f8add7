"""Controls: what every score is compared with.

Owns the shuffle of explanations, and the controls' names.
"""

import numpy as np

OWN, SHUFFLED, RANDOM, TOKENS = "own", "shuffled", "random", "tokens"
"""OWN: a latent with its own explanation. SHUFFLED: with another latent's. RANDOM: a latent of an
SAE that was never trained, with its own. TOKENS: with the explanation of a token-unigram table."""


def derangement(n: int, seed: int) -> list[int] | None:
    """A permutation of n places that moves every place; None for n < 2.

    Places are put in a random circle, and each gets the next one.
    """
    if n < 2:
        return None
    circle = np.random.default_rng([seed, n]).permutation(n)
    other = np.empty(n, dtype=np.int64)
    other[circle] = np.roll(circle, -1)
    return other.tolist()
