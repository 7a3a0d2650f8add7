"""A small text, cached activations of it, and an SAE whose latents are known: made by rule.

Site `resid_post.1` of 8 columns; the identity encoder, so column j is latent j.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from scopeworks import ActivationStore
from scopeworks.store import StoreSpec, StoreWriter, TokenStore
from scopeworks.tests.reference.gemma_models import build_tokenizer
from scopeworks.train.sae.config import SAEConfig
from scopeworks.train.sae.sae import SAE

SITE, CONTEXT, N_SEQUENCES = "resid_post.1", 67, 160
PAD, EOS, BOS = 0, 1, 2
DIGITS, AFTER_EQUALS, VOWELS, RARE, NOISE, DEAD = range(6)
"""Latents: fires on digits, stronger on larger ones; on the token after "="; on e and a; on "Q"; at
random; never. Two more are noise that fires everywhere or in one row of three."""
_TEXT = "0123456789=aeQ xyz(),\n"
_RATES = [4] * 10 + [16, 20, 20, 0.4, 40, 20, 20, 20, 6, 6, 6, 6]


@dataclass(frozen=True)
class Cached:
    """What there is to read."""

    sae: SAE
    store: ActivationStore
    tokens: TokenStore
    ids: np.ndarray
    """[sequences, CONTEXT]."""
    f: np.ndarray
    """[sequences, CONTEXT, 8], float32; NaN where there is no row."""


def token_id(character: str) -> int:
    """The byte's token."""
    return build_tokenizer()(character)["input_ids"][0]


def cached_rows(folder: Path, n_sequences: int = N_SEQUENCES) -> Cached:
    """Writes both stores and opens them; the same every time."""
    ids = _text(n_sequences)
    x = _activations(ids)
    tokens = TokenStore.create(
        folder / "tokens", context=CONTEXT, bos=BOS, eos=EOS, pad=PAD, provenance={}
    )
    tokens.write({"train": ids.astype(np.uint32)})
    keep = ids > BOS
    sequence, position = np.nonzero(keep)
    url = _written(folder / "store", x[keep], ids[keep], sequence, position, tokens.fingerprint)
    f = np.where(keep[..., None], np.where(x > 0.5, x, 0), np.nan).astype(np.float32)
    return Cached(known_sae(), ActivationStore.open(url), tokens, ids, f)


def known_sae() -> SAE:
    """Latent j is column j where it is above 0.5."""
    eye = torch.eye(8)
    config = SAEConfig(d_in=8, d_sae=8, d_out=8, site=SITE, model="bytes")
    zero = torch.zeros(8)
    return SAE(config, eye, zero, eye.clone(), zero.clone(), torch.full((8,), 0.5))


def _text(n_sequences: int) -> np.ndarray:
    """Sequences of known characters; one is there twice, some end in EOS."""
    rng = np.random.default_rng(0)
    alphabet = np.array([token_id(character) for character in _TEXT])
    rates = np.array(_RATES) / sum(_RATES)
    ids = rng.choice(alphabet, (n_sequences, CONTEXT), p=rates)
    ids[:, 0] = BOS
    ids[3, 40] = EOS
    ids[7] = ids[5]
    return ids


def _activations(ids: np.ndarray) -> np.ndarray:
    """x by rule, float32 [sequences, CONTEXT, 8]."""
    rng = np.random.default_rng(1)
    x = np.zeros((*ids.shape, 8), dtype=np.float32)
    for value in range(10):
        x[ids == token_id(str(value)), DIGITS] = 1 + value
    x[:, 1:, AFTER_EQUALS] = 3 * (ids[:, :-1] == token_id("="))
    x[..., VOWELS] = 2 * np.isin(ids, [token_id("a"), token_id("e")])
    x[..., RARE] = 4 * (ids == token_id("Q"))
    x[..., NOISE] = np.where(rng.random(ids.shape) < 0.03, 1 + rng.random(ids.shape), 0)
    x[..., 6] = 1 + rng.random(ids.shape)
    x[..., 7] = np.where(rng.random(ids.shape) < 0.3, 1 + rng.random(ids.shape), 0)
    jitter = 1 + 0.1 * rng.random(x.shape, dtype=np.float32)
    return np.where(x > 0, x * jitter, 0).astype(np.float32)


def _written(
    folder: Path,
    x: np.ndarray,
    token: np.ndarray,
    sequence: np.ndarray,
    position: np.ndarray,
    fingerprint: str,
) -> str:
    """The activation store."""
    spec = StoreSpec(
        sites={SITE: 8},
        rows=len(x),
        bucket_rows=4096,
        chunk_rows=512,
        shard_rows=4096,
        codec="float32",
        seed=1,
        provenance={"model": "bytes", "tokens": fingerprint, "split": "train"},
    )
    writer = StoreWriter.open(str(folder), spec)
    for i in range(writer.n_buckets):
        part = slice(*writer.bucket_range(i))
        with writer.bucket(i) as bucket:
            bucket.append(
                {SITE: torch.from_numpy(x[part])},
                token=token[part],
                sequence=sequence[part],
                position=position[part],
            )
    return str(folder)
