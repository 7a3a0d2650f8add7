"""The `tokens` scorer: a token-unigram table predicts each token's activation. No language model.

E[f | token], estimated on the half that explains, is the best prediction from the token alone. A
latent whose explanation does no better is a token detector, or badly explained.
"""

import numpy as np

from ...samples.sample_set import Samples
from ..statistics import Simulated


def simulate(samples: Samples, k: int, table_of: int | None = None) -> Simulated:
    """A table's predictions on latent k's test contexts.

    Args:
        samples: the samples of all latents.
        k: the latent's index in `samples`.
        table_of: the latent whose table predicts; by default k.
    """
    drawn, fires = samples.tests(k)
    predicted = samples.unigrams.predict(k if table_of is None else table_of, drawn.tokens)
    return Simulated(fires, drawn.f.astype(np.float64), predicted, drawn.sequence)
