"""The baseline without a language model: token-unigram tables as explanations, with controls."""

from collections.abc import Sequence
from typing import NamedTuple

from ....store import ActivationStore, TokenStore
from ....train.sae.sae import SAE
from ..samples.sample_set import Samples
from ..samples.settings import SampleSettings
from ..samples.twin import with_twin
from .controls import OWN, RANDOM, SHUFFLED, derangement
from .scorers.unigrams import simulate
from .statistics import Figure, figures


class Baseline(NamedTuple):
    """Pearson's r of the unigram simulator, by latent in the order asked for."""

    samples: Samples
    """The SAE's; its `density` gives each latent's stratum."""
    own: list[Figure]
    """No value for a latent without a table, here and in the two below."""
    shuffled: list[Figure] | None
    """With another latent's table; None if fewer than two latents have one."""
    random: list[Figure]
    """Of an SAE that was never trained; its latent k fires as often as the k-th asked for."""


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
    by_variant = by_tables(samples, twin, settings.seed)
    r = {name: [one.get("r", Figure(None)) for one in found] for name, found in by_variant.items()}
    return Baseline(samples, r[OWN], r.get(SHUFFLED), r[RANDOM])


def by_tables(samples: Samples, twin: Samples, seed: int) -> dict[str, list[dict[str, Figure]]]:
    """Figures by token-unigram tables: by variant, then by latent.

    A latent that never fires in the half that explains has an empty table. It gets no figures, and
    its table explains no other latent, so own and shuffled are of the same latents. With fewer than
    two tables there is no shuffled variant.
    """
    places = list(range(len(samples.latents)))
    seeds = (seed + samples.latents).tolist()
    alive = [k for k in places if samples.unigrams.firings(k)]
    own = {k: k for k in alive}
    random = {k: k for k in places if twin.unigrams.firings(k)}
    other = derangement(len(alive), seed)
    tables = {OWN: (samples, own)}
    if other is not None:
        tables[SHUFFLED] = (samples, {k: alive[i] for k, i in zip(alive, other, strict=True)})
    tables[RANDOM] = (twin, random)
    return {
        name: [figures(simulate(of, k, table[k]), seeds[k]) if k in table else {} for k in places]
        for name, (of, table) in tables.items()
    }
