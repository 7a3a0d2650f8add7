"""A store whose rows are made by hand, and an SAE whose latents are known to fire on what they say.

A channel of each row marks a property of its token: it is a digit, it follows `def`, and so on.
Tokenizer, widths and fingerprints are the tiny model's, so that every command takes them.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scopeworks.harvest.model.loading import load_model, load_tokenizer
from scopeworks.harvest.rows.plan import Mask, Plan
from scopeworks.harvest.settings import TokenizeSettings
from scopeworks.harvest.tokens.run import tokenize_text
from scopeworks.store import StoreSpec, StoreWriter, TokenStore
from scopeworks.train.sae.config import SAEConfig
from scopeworks.train.sae.sae import SAE

MODEL = Path(__file__).parents[3] / "pipelines" / "tiny_gemma2"
SITE, D, CONTEXT = "resid_post.3", 128, 64
DIGIT, AFTER_DEF, RETURN, ALWAYS, DEAD, TWIN = range(6)
"""Latents: a token with a digit; the token after ` def` or `def`; a token that is `return`; every
token, 1 each; none; AFTER_DEF's double, half as strong."""
D_SAE = 24
"""The others fire on noise, each about once in 160 rows."""

_WORDS = ["alpha", "beta", "gamma", "delta", "count", "total", "value", "index", "left", "right"]


@dataclass(frozen=True)
class Planted:
    """Where all of it is."""

    tokens: str
    store: str
    sae: str
    model: str = str(MODEL)


def text(number: int) -> str:
    """A document of functions, a few hundred characters; every fifth is the fifth before it."""
    draw = np.random.default_rng(number - 5 if number % 5 == 0 and number else number)
    lines = []
    for _ in range(draw.integers(3, 9)):
        name, other = draw.choice(_WORDS, 2)
        a, b = draw.integers(0, 1000, 2)
        lines += [
            f"def {name}({other}):",
            f"    {name} = {other} + {a}",
            f"    return {name} * {b}",
        ]
    return "\n".join(lines) + "\n"


def properties(ids: np.ndarray, texts: list[str]) -> np.ndarray:
    """float32 [n, context, 4]: how strongly DIGIT, AFTER_DEF, RETURN and ALWAYS fire on each token.

    Args:
        ids: [n, context].
        texts: of every token id.
    """
    digits = np.array([sum(c.isdigit() for c in word) for word in texts], dtype=np.float32)
    is_def = np.array([word.strip() == "def" for word in texts])
    is_return = np.array([word.strip() == "return" for word in texts], dtype=np.float32)
    found = np.zeros((*ids.shape, 4), dtype=np.float32)
    found[..., DIGIT] = digits[ids]
    # Stronger the later it comes, so that the strongest are known.
    found[:, 1:, AFTER_DEF] = is_def[ids[:, :-1]] * (1 + np.arange(1, ids.shape[1]) / 64)
    found[..., RETURN] = is_return[ids]
    found[..., ALWAYS] = 1
    return found


def rows_of(found: np.ndarray, seed: int = 0) -> torch.Tensor:
    """float32 [n, D] rows that bfloat16 holds exactly: the properties in the first channels, small
    noise in the others."""
    noise = np.random.default_rng(seed).normal(size=(len(found), D)).astype(np.float32)
    noise[:, :4] = found
    noise[:, 4] = 0
    return torch.from_numpy(noise).bfloat16().float()


def sae() -> SAE:
    """Latents that read one channel each; θ of the noisy ones lets the largest 0.6% through."""
    W_enc = torch.zeros(D, D_SAE)
    for latent, channel in enumerate([0, 1, 2, 3, 4, 1, *range(5, 5 + D_SAE - 6)]):
        W_enc[channel, latent] = 0.5 if latent == TWIN else 1.0
    theta = torch.full((D_SAE,), 2.5)
    theta[:6] = 0.25
    config = SAEConfig(
        d_in=D,
        d_sae=D_SAE,
        d_out=D,
        site=SITE,
        model="tiny_gemma2",
        model_fingerprint=fingerprint(),
        context=CONTEXT,
    )
    W_dec = torch.nn.functional.normalize(
        torch.randn(D_SAE, D, generator=torch.Generator().manual_seed(0)), dim=1
    )
    return SAE(config, W_enc, torch.zeros(D_SAE), W_dec, torch.zeros(D), theta)


@cache
def fingerprint() -> str:
    """Of the tiny model."""
    return load_model(MODEL, device="cpu").fingerprint


def plant(folder: Path, n_documents: int = 60, **spec: Any) -> Planted:
    """Writes tokens, store and SAE into a folder; about 90 rows a document.

    Args:
        folder: is made.
        n_documents: of text.
        spec: more of the store's spec, such as `bucket_rows`.
    """
    found = Planted(*(str(folder / name) for name in ("tokens", "store", "sae")))
    (folder / "text").mkdir(parents=True)
    for number in range(n_documents):
        (folder / "text" / f"{number:03}.py").write_text(text(number))
    tokenize_text(
        TokenizeSettings.model_validate(
            {"model": str(MODEL), "text": [str(folder / "text")], "out": found.tokens}
            | {"context": CONTEXT, "held_out": 0.1}
        )
    )
    write_store(found, **spec)
    sae().save(found.sae)
    return found


def write_store(found: Planted, **spec: Any) -> None:
    """The activation store: what a harvest would have left, with rows made by hand."""
    tokenizer, _ = load_tokenizer(MODEL)
    tokens = TokenStore.open(found.tokens)
    sequences = tokens.sequences("train")
    mask = Mask((0, 1, 2))
    plan = Plan(sequences, mask)
    texts = [str(tokenizer.decode([i])) for i in range(len(tokenizer))]
    at = properties(np.asarray(sequences), texts)
    origin = {
        "model": str(MODEL),
        "model_fingerprint": fingerprint(),
        "tokenizer": tokens.provenance["tokenizer"],
        "tokens": tokens.fingerprint,
        "split": "train",
        "context": CONTEXT,
        "masked_token_ids": [0, 1, 2],
    }
    given = {"sites": {SITE: D}, "rows": plan.rows, "bucket_rows": 1024, "provenance": origin}
    writer = StoreWriter.open(found.store, StoreSpec.model_validate(given | spec))
    for number in range(writer.n_buckets):
        with writer.bucket(number) as bucket:
            for block in plan.part(*writer.bucket_range(number)).blocks(sequences, mask, 16):
                rows = rows_of(at[block.sequence, block.position], seed=int(block.flat[0]))
                bucket.append({SITE: rows}, block.token, block.sequence, block.position)
