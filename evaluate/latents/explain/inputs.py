"""Inputs of explaining: an index, its tokenizer, and the samples of some latents.

Owns how samples are read again or drawn, and the errors for inputs that do not belong to the index.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from ....harvest.model.loading import load_tokenizer
from ....harvest.model.vocabulary import tokenizer_fingerprint
from ....store import ActivationStore, TokenStore
from ....store.which_rows import rows_key
from ....train.sae.hub import is_remote
from ....train.sae.sae import SAE
from ...measure.top_activations import choose_latents
from ..files.explanations import origin
from ..files.folder import LatentIndex
from ..samples.sample_set import Samples
from ..samples.samples_file import read_samples, write_samples
from ..samples.settings import SampleSettings
from ..samples.twin import with_twin
from ..weights.identity import sae_fingerprint
from .settings import ExplainSettings, SourcesSettings

SAMPLES = "explanations/samples"
"""Folder in an index, with a file for each choice of latents and settings."""


def chosen_latents(index: LatentIndex, settings: ExplainSettings) -> list[int]:
    """The latents to explain, ascending.

    Raises:
        ValueError: a latent is not in the SAE, or is given twice.
    """
    d_sae = index.manifest.sae.d_sae
    if settings.latents is None:
        import torch

        fired = torch.tensor([index.page(latent)["fired"] for latent in range(d_sae)])
        return sorted(choose_latents(fired, settings.n or 100, settings.seed))
    wrong = [latent for latent in settings.latents if not 0 <= latent < d_sae]
    if wrong:
        raise ValueError(f"latents must be 0 … {d_sae - 1}, as in {index.folder}, got {wrong[0]}")
    if len(set(settings.latents)) < len(settings.latents):
        raise ValueError("latents must each be given once, got one of them twice")
    return sorted(settings.latents)


def tokenizer_of(index: LatentIndex, model: str | None) -> Any:
    """The tokenizer of an index's tokens.

    Raises:
        ValueError: no model is named, or its tokenizer is not the index's.
    """
    if model is None:
        raise ValueError(
            f"model must name the language model of {index.folder}, {index.manifest.model}, for "
            "its tokenizer; pass --model"
        )
    tokenizer, _ = load_tokenizer(model)
    wanted, got = index.manifest.tokenizer, tokenizer_fingerprint(tokenizer)
    if wanted != got:
        raise ValueError(
            f"model must have the tokenizer of {index.folder} (fingerprint {wanted}), got {got} in "
            f"{model}; pass {index.manifest.model}"
        )
    return tokenizer


def drawn_by(index: LatentIndex, latents: list[int], sampling: SampleSettings) -> dict[str, Any]:
    """Everything that decides which samples are drawn, as JSON values."""
    facts: dict[str, Any] = {"latents": latents, "settings": sampling.model_dump(mode="json")}
    facts |= origin(index.manifest)
    return json.loads(json.dumps(facts))


def samples_of(
    index: LatentIndex, by: dict[str, Any], settings: SourcesSettings
) -> tuple[Samples, Samples]:
    """(samples of latents, samples of their random twins), read from the index or drawn now.

    Raises:
        ValueError, OSError: the samples must be drawn, but SAE, rows or tokens are missing or do
            not belong to the index.
    """
    text = json.dumps(by, sort_keys=True)
    name = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    path = index.folder / SAMPLES / f"{name}.npz"
    kept = read_samples(path, by)
    if kept is not None:
        return kept
    sae, store, tokens = _sources(index, settings)
    site = index.manifest.sae.site
    sampling = SampleSettings.model_validate(by["settings"])
    found = with_twin(sae, store, tokens, by["latents"], sampling, site)
    write_samples(path, *found, by)
    return found


def _sources(
    index: LatentIndex, settings: SourcesSettings
) -> tuple[SAE, ActivationStore, TokenStore]:
    """The SAE, rows and tokens of an index; refuses others."""
    manifest = index.manifest
    for name in ("store", "tokens"):
        if getattr(settings, name) is None:
            raise ValueError(
                f"{name} must be given, for contexts are drawn from the rows that {index.folder} "
                f"was made from; pass --{name} URL"
            )
    where = settings.sae or manifest.sae.source
    if where is None:
        raise ValueError(f"sae must be given: {index.folder} does not say where its SAE is; --sae")
    sae = SAE.from_pretrained(where) if is_remote(where) else SAE.load(Path(where))
    store = ActivationStore.open(settings.place(str(settings.store)))
    tokens = TokenStore.open(settings.place(str(settings.tokens)))
    for name, place, wanted, got in (
        ("sae", where, manifest.sae.fingerprint, sae_fingerprint(sae)),
        ("store", settings.store, manifest.store.key, rows_key(store.spec)),
        ("tokens", settings.tokens, manifest.tokens.fingerprint, tokens.fingerprint),
    ):
        if wanted != got:
            raise ValueError(
                f"{name} must be the one that {index.folder} was made from ({wanted[:16]}), got "
                f"another in {place} ({got[:16]})"
            )
    return sae, store, tokens
