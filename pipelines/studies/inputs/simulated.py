"""How well latents' activations are predicted from an explanation, beside each SAE's evaluation.

Owns which latents are taken: evenly over firing frequency, from those that fire often enough to be
explained and tested. Explanations, simulator and r are `evaluate.latents.score`'s.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from ....evaluate.latents.score.baseline import baseline
from ....store import ActivationStore, TokenStore
from ....train.sae.sae import SAE
from ...steps.harvest import stores_of
from ...suite.members import SuiteMember
from ...suite.outputs import Outputs

LATENTS = 100
"""Of each SAE; all that fire often enough, where they are fewer."""
COUNTED_ROWS = 1 << 16
"""Rows over which firings are counted to choose latents."""
MIN_FIRINGS = 16
"""Rows of those in which a latent that is taken fires."""
SIMULATOR = "token unigrams"
_BLOCK_VALUES = 1 << 24
"""Feature activations that are held at a time: 64 MiB."""


def with_simulation(outputs: Outputs, documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The evaluations of a suite's SAEs, in their order, each with `simulation`: r of each chosen
    latent, with its own explanation (`own`), with another latent's (`shuffled`), and of a latent of
    an SAE that was never trained which fires as often (`random`)."""
    tokens = TokenStore.open(outputs.tokens)
    return [
        document | {"simulation": _simulated(outputs, member, tokens)}
        for member, document in zip(outputs.members, documents, strict=True)
    ]


def _simulated(outputs: Outputs, member: SuiteMember, tokens: TokenStore) -> dict[str, Any]:
    """One SAE's."""
    store = ActivationStore.open([outputs.suite.place(url) for url in stores_of(outputs, member)])
    sae = SAE.load(outputs.sae(member))
    fired = firings(sae, store, str(member.sites[0]), min(COUNTED_ROWS, store.rows))
    enough = int((fired >= MIN_FIRINGS).sum())
    chosen = evenly(fired, LATENTS)
    latents = []
    if len(chosen):
        found = baseline(sae, store, tokens, chosen)
        nothing = [None] * len(chosen)
        other = nothing if found.shuffled is None else [one.value for one in found.shuffled]
        columns = zip(chosen, found.samples.density, found.own, other, found.random, strict=True)
        latents = [
            {"latent": latent, "density": float(f"{density:.6g}"), "own": own.value}
            | {"shuffled": shuffled, "random": random.value}
            for latent, density, own, shuffled, random in columns
        ]
    return {"simulator": SIMULATOR, "latents": latents, "fire_enough": enough}


def firings(sae: SAE, store: ActivationStore, site: str, rows: int) -> Int[np.ndarray, " d_sae"]:
    """Rows in which each latent fires, of a store's first ones."""
    size = max(1, _BLOCK_VALUES // sae.config.d_sae)
    fired = np.zeros(sae.config.d_sae, np.int64)
    with torch.no_grad():
        for start in range(0, rows, size):
            x = store.read(site, start, min(start + size, rows))
            fired += (sae.encode(x) > 0).sum(0).numpy()
    return fired


def evenly(fired: Int[np.ndarray, " d_sae"], n: int) -> list[int]:
    """n latents evenly over the rank of firing frequency: the middle one of each of n equal groups
    of those that fire `MIN_FIRINGS` times; all of them where they are fewer; ascending."""
    order = np.argsort(fired, kind="stable")
    order = order[fired[order] >= MIN_FIRINGS]
    n = min(n, len(order))
    return sorted(int(order[len(order) * (2 * i + 1) // (2 * n)]) for i in range(n))
