"""Adds to each SAE's evaluation how well explanations predict its latents, for study simulation.

Owns the choice of latents: evenly over firing frequency, from those that fire often enough to be
explained and tested. `evaluate.latents.score` makes explanations, predictions and r.
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
"""Latents of each SAE; if fewer fire often enough, all of those."""
COUNTED_ROWS = 1 << 16
"""Rows over which firings are counted to choose latents."""
MIN_FIRINGS = 16
"""A chosen latent fires in at least so many of these rows."""
SIMULATOR = "token unigrams"
_BLOCK_VALUES = 1 << 24
"""Feature activations in memory at a time: 64 MiB."""


def with_simulation(outputs: Outputs, documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The evaluations of a suite's SAEs, in their order, each with `simulation`.

    It has Pearson's r of each chosen latent: with its own explanation (`own`), with another
    latent's (`shuffled`), and for a latent of an untrained SAE that fires as often (`random`).
    """
    tokens = TokenStore.open(outputs.tokens)
    return [
        document | {"simulation": _simulated(outputs, member, tokens)}
        for member, document in zip(outputs.members, documents, strict=True)
    ]


def _simulated(outputs: Outputs, member: SuiteMember, tokens: TokenStore) -> dict[str, Any]:
    """`simulation` of one SAE."""
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
    """In how many of a store's first `rows` rows each latent fires."""
    size = max(1, _BLOCK_VALUES // sae.config.d_sae)
    fired = np.zeros(sae.config.d_sae, np.int64)
    with torch.no_grad():
        for start in range(0, rows, size):
            x = store.read(site, start, min(start + size, rows))
            fired += (sae.encode(x) > 0).sum(0).numpy()
    return fired


def evenly(fired: Int[np.ndarray, " d_sae"], n: int) -> list[int]:
    """At most n latents, evenly over the rank of firing frequency, in ascending order.

    Latents that fire in at least `MIN_FIRINGS` rows are sorted by `fired` and cut into n equal
    groups; the middle one of each group is taken.
    """
    order = np.argsort(fired, kind="stable")
    order = order[fired[order] >= MIN_FIRINGS]
    n = min(n, len(order))
    return sorted(int(order[len(order) * (2 * i + 1) // (2 * n)]) for i in range(n))
