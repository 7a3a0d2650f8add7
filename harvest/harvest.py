"""Harvest: from sequences of tokens to rows of activations, through one forward pass each.

Owns the settings of the stage, the checks that model and tokens belong together, and the run over
the buckets. Which rows there are is `plan`'s business, where activations sit in the model `hooks`',
what a store is `store`'s.
"""

from typing import Any

import numpy as np
import torch
from pydantic import Field

from ..console import progress
from ..settings import Settings
from ..store import StoreSpec, StoreWriter, TokenStore
from .hooks import forward_until
from .model import LanguageModel, check_context, load_model, tokenizer_fingerprint
from .plan import Mask, Plan
from .record import write_settings
from .sites import Site, expand_sites, site_width

BATCH_TOKENS = 4096


class HarvestSettings(Settings):
    """What `scopeworks harvest` does."""

    model: str
    """Folder or hub id of a Gemma 2."""
    tokens: str
    """URL of the token store."""
    store: str
    """URL of the activation store."""
    site: list[str] = Field(min_length=1)
    """Sites, as resid_post.12, mlp_out.0-12 or attn_out.*."""
    rows: int | None = Field(default=None, gt=0)
    """Rows to harvest; by default all that the split gives."""
    split: str = "train"
    """Split of the token store."""
    codec: str = "exact"
    """How rows are stored: exact (bfloat16), fast, or float32."""
    bucket_rows: int | None = Field(default=None, gt=0)
    """Rows that are shuffled and committed together; by default the store's choice, about 10^6."""
    seed: int = Field(default=0, ge=0)
    """Seed of the rows' order inside a bucket."""
    dtype: str = "bfloat16"
    """Of the model's weights and computation: bfloat16, as Gemma 2 was trained, or float32."""
    device: str = "auto"
    """cpu, cuda, cuda:1, …; auto takes cuda where there is one."""
    attention: str = "eager"
    """Attention implementation; must apply the soft-cap."""
    batch_sequences: int | None = Field(default=None, gt=0)
    """Sequences in one forward pass; by default about 4,096 tokens' worth."""


def harvest(settings: HarvestSettings) -> StoreSpec:
    """Harvests a token store's split into an activation store; continues one that was begun.

    Every bucket is a pure function of model, tokens, settings and bucket number, computed and
    committed on its own: however often the command is stopped and run again, the store ends the
    same, bit for bit, on one type of device.

    Raises:
        OSError: model, tokens or store cannot be read or written.
        ValueError: model and tokens do not belong together, a site does not exist, there are fewer
            rows than asked for, or the store was begun with other settings (naming them).
    """
    tokens = TokenStore.open(settings.tokens)
    model = load_model(settings.model, settings.dtype, settings.device, settings.attention)
    _check_tokens(tokens, model, settings)
    sites = expand_sites(settings.site, model.config.num_hidden_layers)
    mask = Mask(special_ids(tokens))
    plan = Plan(tokens.sequences(settings.split), mask, settings.rows)
    batch = settings.batch_sequences or max(1, BATCH_TOKENS // tokens.context)
    spec = store_spec(
        settings, plan, sites, model, provenance(settings, tokens, model, mask, batch)
    )
    with StoreWriter.open(settings.store, spec) as writer:
        write_settings(settings.store, "harvest", settings)
        _fill(writer, plan, sites, model, batch)
    return spec


def special_ids(tokens: TokenStore) -> tuple[int, ...]:
    """The ids of BOS, EOS and PAD, at which no activation is kept."""
    ids = (tokens.bos, tokens.eos, tokens.pad)
    return tuple(sorted({token for token in ids if token is not None}))


def store_spec(
    settings: HarvestSettings,
    plan: Plan,
    sites: list[Site],
    model: LanguageModel,
    origin: dict[str, Any],
) -> StoreSpec:
    """What the activation store will hold."""
    given = {} if settings.bucket_rows is None else {"bucket_rows": settings.bucket_rows}
    return StoreSpec.model_validate(
        {
            "sites": {str(site): site_width(site, model.config) for site in sites},
            "rows": plan.rows,
            "codec": settings.codec,
            "seed": settings.seed,
            "provenance": origin,
            **given,
        }
    )


def provenance(
    settings: HarvestSettings, tokens: TokenStore, model: LanguageModel, mask: Mask, batch: int
) -> dict[str, Any]:
    """Everything that decides the rows' values and is not in the store's own spec.

    The batch is part of it: matrix products of other shapes round differently.
    """
    return {
        "model": model.name,
        "model_fingerprint": model.fingerprint,
        "tokenizer": tokenizer_fingerprint(model.tokenizer),
        "tokens": tokens.fingerprint,
        "split": settings.split,
        "context": tokens.context,
        "masked_token_ids": list(mask.token_ids),
        "dtype": model.dtype,
        "attention": model.attention,
        "batch_sequences": batch,
    }


def _check_tokens(tokens: TokenStore, model: LanguageModel, settings: HarvestSettings) -> None:
    """Refuses tokens of another tokenizer, or sequences too long for the model."""
    ours, theirs = tokenizer_fingerprint(model.tokenizer), tokens.provenance.get("tokenizer")
    if ours != theirs:
        raise ValueError(
            f"token store {settings.tokens} must be made with the tokenizer of {settings.model} "
            f"({ours}), got one made with another ({theirs}); tokenize again with --model "
            f"{settings.model}"
        )
    check_context(tokens.context, model.config, settings.model)


def _fill(
    writer: StoreWriter, plan: Plan, sites: list[Site], model: LanguageModel, batch: int
) -> None:
    """Harvests the buckets that are not committed yet, in order."""
    committed = writer.committed
    missing = [i for i in range(writer.n_buckets) if i not in committed]
    ranges = {i: writer.bucket_range(i) for i in missing}
    total = sum(stop - start for start, stop in ranges.values())
    with progress("harvest", total, "rows") as bar:
        for i in missing:
            with writer.bucket(i) as bucket:
                for block in plan.blocks(*ranges[i], batch):
                    bucket.append(
                        activations(model, block.tokens, block.flat, sites),
                        token=block.token,
                        sequence=block.sequence,
                        position=block.position,
                    )
                    bar.advance(len(block.flat), bucket=f"{i + 1}/{writer.n_buckets}")


def activations(
    model: LanguageModel, tokens: np.ndarray, flat: np.ndarray, sites: list[Site]
) -> dict[str, torch.Tensor]:
    """The sites' activations [rows, d] at places `flat` of sequences [n, context], on the CPU."""
    ids = torch.from_numpy(tokens.astype(np.int64)).to(model.device)
    picked = torch.from_numpy(flat).to(model.device)
    captured = forward_until(model, ids, sites)
    return {
        str(site): captured[str(site)].flatten(0, 1).index_select(0, picked).cpu() for site in sites
    }
