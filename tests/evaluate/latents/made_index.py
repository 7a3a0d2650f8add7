"""An index of the planted SAE: its own facts, made-up contents. What explaining reads of it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scopeworks.evaluate.latents.files.folder import write_index
from scopeworks.evaluate.latents.files.manifest import (
    Manifest,
    SAEFacts,
    StoreFacts,
    TokensFacts,
)
from scopeworks.evaluate.latents.weights.identity import sae_fingerprint
from scopeworks.store import ActivationStore, TokenStore
from scopeworks.store.which_rows import rows_key
from scopeworks.tests.evaluate.latents import made_contents
from scopeworks.tests.evaluate.latents.planted import SITE, D, Planted, plant
from scopeworks.train.sae.sae import SAE


@dataclass(frozen=True)
class Indexed:
    """An index and what it is of."""

    index: Path
    planted: Planted

    @property
    def places(self) -> dict[str, str]:
        """What `latents explain` is told beside the index."""
        found = self.planted
        return {"store": found.store, "tokens": found.tokens, "model": found.model}


def planted_index(folder: Path, n_documents: int = 60) -> Indexed:
    """Plants an SAE below a folder and writes an index of it."""
    planted = plant(folder / "planted", n_documents)
    return Indexed(write_index_of(planted, folder / "index"), planted)


def write_index_of(planted: Planted, out: Path) -> Path:
    """Writes an index of a planted SAE."""
    sae, store = SAE.load(planted.sae), ActivationStore.open(planted.store)
    tokens, d_sae = TokenStore.open(planted.tokens), sae.config.d_sae
    facts = SAEFacts(
        name="planted",
        source=planted.sae,
        site=SITE,
        d_in=D,
        d_out=D,
        d_sae=d_sae,
        fingerprint=sae_fingerprint(sae),
    )
    manifest = Manifest(
        sae=facts,
        model="tiny_gemma2",
        tokenizer=store.provenance["tokenizer"],
        store=StoreFacts(key=rows_key(store.spec), site=SITE, rows=store.rows),
        tokens=TokensFacts(fingerprint=tokens.fingerprint, split="train", context=tokens.context),
        settings={},
    )
    contents = made_contents.firings(d_sae), made_contents.directions(d_sae)
    write_index(out, manifest, *contents, made_contents.decode, np.zeros(d_sae, np.float32))
    return out
