"""The inputs of an index: an SAE, rows of its site, and the tokens of the rows.

Owns every error about inputs that do not belong together. The command and Dask workers read them
alike; only the command checks the model (`check_model`).
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ....harvest.model.sites import Site
from ....harvest.rows.documents import Documents, documents_of
from ....machine import find_device, free_memory
from ....store import ActivationStore, TokenStore
from ....store.which_rows import rows_key
from ....train.sae.hub import is_remote, is_url
from ....train.sae.sae import SAE
from ...measure.inputs import named_sites
from ..files.manifest import OtherFacts
from ..weights.identity import sae_fingerprint
from .parts import parts_of, rows_digest
from .settings import NOT_DECIDING, IndexSettings
from .snippets import OVER_COLLECTED
from .tally.tally import Size

_DRAWN_IN_ALL, _MOST_DRAWN = 2**22, 256
_POSITION_BINS = 16
_TAKEN = ("decoder", "encoder")
"""Names of the SAE's own sides in tables of neighbours, which no other SAE may have."""


@dataclass(frozen=True)
class Inputs:
    """Everything that the pass reads, checked."""

    settings: IndexSettings
    name: str
    """Name of the SAE: the last part of its path or address."""
    sae: SAE
    """The SAE, on the device that encodes."""
    sae_fingerprint: str
    site: Site
    target_site: Site
    store: ActivationStore
    tokens: TokenStore
    split: str
    documents: Documents
    key: str
    """Key of the store's rows: which rows, and in which order."""
    facts: dict[str, Any]
    """Everything that decides the content of the pass's parts, as JSON values."""

    @classmethod
    def load(cls, settings: IndexSettings) -> "Inputs":
        """Reads and checks all inputs.

        Raises:
            ValueError, OSError: an input is missing or does not fit the others; one line.
        """
        device = find_device(settings.device)
        sae = read_sae(settings.sae, settings)
        name = _last_part(settings.sae)
        site, target = named_sites(name, sae.config, settings.site, settings.target_site)
        store = ActivationStore.open(settings.place(settings.store))
        tokens = TokenStore.open(settings.place(settings.tokens))
        _check_store(store, sae, name, str(site))
        key, split = _check_tokens(store, tokens)
        check_memory(settings, sae)
        fingerprint = sae_fingerprint(sae)
        facts = {
            "sae": fingerprint,
            "device": device.type,  # products round differently on another kind of device
            "rows": rows_digest(store, str(site), settings.rows),
            "tokens": tokens.fingerprint,
            "settings": settings.model_dump(mode="json", exclude=set(NOT_DECIDING)),
        }
        return cls(
            settings,
            name,
            sae.to(device, torch.float32, copy=False),
            fingerprint,
            site,
            target,
            store,
            tokens,
            split,
            documents_of(tokens, split),
            key,
            facts,
        )

    @property
    def rows(self) -> int:
        """Rows that are read: whole buckets."""
        return parts_of(self.store, self.settings.rows)[-1].stop

    def size(self, position_bins: int) -> Size:
        """Sizes of the tallies' arrays."""
        return Size(
            self.sae.config.d_sae,
            OVER_COLLECTED * self.settings.top,
            n_drawn(self.sae.config.d_sae),
            position_bins,
            self.settings.together_rows / self.rows,
        )

    def check_model(self, fingerprint: str, tokenizer: str) -> None:
        """Refuses a model that the rows do not come from, by the fingerprints of weights and
        tokenizer.

        Raises:
            ValueError: a fingerprint is not that of the rows.
        """
        given, rows = self.settings.model, self.store.provenance
        theirs = rows.get("tokenizer") or self.tokens.provenance.get("tokenizer")
        for what, wanted, got in (
            ("model", rows["model_fingerprint"], fingerprint),
            ("tokenizer", theirs, tokenizer),
        ):
            if wanted is not None and wanted != got:
                raise ValueError(
                    f"{what} must be the one whose rows store {self.store.url} holds, "
                    f"{rows.get('model')} ({wanted}), got that of {given} ({got}); pass that model"
                )


def n_drawn(d_sae: int) -> int:
    """Firings that are drawn of each latent: 256, or fewer if there are over 16,384 latents."""
    return max(1, min(_MOST_DRAWN, _DRAWN_IN_ALL // d_sae))


def check_memory(settings: IndexSettings, sae: SAE) -> None:
    """Refuses an index that would not fit in this machine's memory.

    Raises:
        ValueError: naming the memory that it takes.
    """
    d_sae, d_in = sae.config.d_sae, sae.config.d_in
    firing = 28 * n_drawn(d_sae) + 20 * OVER_COLLECTED * settings.top + 700
    shown = (settings.top + settings.bands * settings.per_band) * (40 + 12 * settings.window)
    needed = d_sae * (2 * firing + shown + 8 * d_in) + 2**27
    free = free_memory(torch.device("cpu"))
    if needed > free:
        raise ValueError(
            f"memory must hold the index's counts, about {needed / 2**30:.1f} GiB for {d_sae:,} "
            f"latents, got {free / 2**30:.1f} GiB; lower --top or --per-band, or use a larger "
            "machine"
        )


def read_sae(path: str, settings: IndexSettings) -> SAE:
    """Reads an SAE to the CPU; its `source` is the path, URL or hub id."""
    if is_remote(path):
        options = settings.storage_options if is_url(path) else None
        return SAE.from_pretrained(path, storage_options=options)
    sae = SAE.load(path)
    sae.source = path
    return sae


def compared(settings: IndexSettings) -> list[OtherFacts]:
    """The SAEs of `compare`, in the order of the settings; one is in memory at a time.

    Names are the last parts of the paths; equal names get the fingerprint as an ending.

    Raises:
        ValueError, OSError: an SAE cannot be read, or is given twice.
    """
    prints = [sae_fingerprint(read_sae(path, settings)) for path in settings.compare]
    for i, path in enumerate(settings.compare):
        if prints[i] in prints[:i]:
            first = settings.compare[prints.index(prints[i])]
            raise ValueError(
                f"every SAE of compare must be given once, got {path} with the tensors of {first}; "
                "leave one out"
            )
    names = [_last_part(path) for path in settings.compare]
    alike = {name for name, n in Counter([*names, *_TAKEN]).items() if n > 1}
    return [
        OtherFacts(name=f"{name} ({print_})" if name in alike else name, fingerprint=print_)
        for name, print_ in zip(names, prints, strict=True)
    ]


def _last_part(path: str) -> str:
    """Name of an SAE: the name of its folder; the name of a params.npz in it does not count."""
    folders = path.rstrip("/").split("/") if is_remote(path) else Path(path).absolute().parts
    names = [name for name in folders if not name.endswith(".npz")]
    return names[-1]


def _check_store(store: ActivationStore, sae: SAE, name: str, site: str) -> None:
    """Refuses a store without rows of the SAE's site, or with rows of another model."""
    if site not in store.sites:
        raise ValueError(
            f"store {store.url} must have rows of {site}, which SAE {name} reads, got "
            f"{', '.join(store.sites)}; pass a store of that site, or harvest it"
        )
    if not store.rows:
        raise ValueError(f"store {store.url} must have rows, got none yet; let the harvest run on")
    if store.sites[site] != sae.config.d_in:
        raise ValueError(
            f"rows of {site} must be as wide as SAE {name} reads, {sae.config.d_in}, got "
            f"{store.sites[site]} in store {store.url}; pass a store of the SAE's model"
        )
    theirs, own = store.provenance.get("model_fingerprint"), sae.config.model_fingerprint
    if own is not None and theirs is not None and own != theirs:
        raise ValueError(
            f"store {store.url} must hold rows of the model that SAE {name} was trained on, "
            f"{sae.config.model} ({own}), got {store.provenance.get('model')}'s ({theirs}); pass "
            "that model's store"
        )


def _check_tokens(store: ActivationStore, tokens: TokenStore) -> tuple[str, str]:
    """(key of the rows, their split); refuses tokens that are not those of the store's rows."""
    try:
        key = rows_key(store.spec)
    except ValueError as error:
        raise ValueError(
            f"store {store.url} must say which tokens its rows are of: {error}; harvest it again"
        ) from error
    wanted, split = store.provenance["tokens"], store.provenance["split"]
    if tokens.fingerprint != wanted:
        raise ValueError(
            f"tokens must be those whose rows store {store.url} holds ({str(wanted)[:16]}), got "
            f"{tokens.url} ({tokens.fingerprint[:16]}); pass the store that was harvested"
        )
    tokens.sequences(split)
    return key, split
