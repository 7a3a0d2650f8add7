"""The baseline without a language model: token-unigram tables as explanations, with controls."""

from collections.abc import Sequence
from typing import NamedTuple

from ....store import ActivationStore, TokenStore
from ....train.sae.sae import SAE
from ..samples.sample_set import Samples
from ..samples.settings import SampleSettings
from ..samples.twin import with_twin
from .controls import derangement
from .scorers.unigrams import simulate
from .statistics import Figure, figures


class Baseline(NamedTuple):
    """Pearson's r of the unigram simulator, by latent in the order asked for."""

    samples: Samples
    """Of the SAE: `density` tells each latent's stratum."""
    own: list[Figure]
    shuffled: list[Figure] | None
    """With another latent's table; None for a single latent."""
    random: list[Figure]
    """Of an SAE that was never trained, whose latent k fires as often as the k-th asked for."""


def baseline(
    sae: SAE,
    store: ActivationStore,
    tokens: TokenStore,
    latents: Sequence[int],
    settings: SampleSettings | None = None,
    site: str | None = None,
) -> Baseline:
    """How well token-unigram tables predict latents' activations on text that did not make them.

    Args:
        sae, store, tokens, latents, settings, site: as `samples.collect` takes them.

    Raises:
        ValueError: as `samples.collect` raises.
    """
    settings = settings or SampleSettings()
    samples, twin = with_twin(sae, store, tokens, latents, settings, site)
    other = derangement(len(latents), settings.seed)
    places = list(range(len(latents)))
    return Baseline(
        samples,
        _simulated(samples, places, settings.seed),
        None if other is None else _simulated(samples, other, settings.seed),
        _simulated(twin, places, settings.seed),
    )


def _simulated(samples: Samples, tables: Sequence[int], seed: int) -> list[Figure]:
    """r of every latent with the table of the latent named for it."""
    return [figures(simulate(samples, k, table), seed)["r"] for k, table in enumerate(tables)]
