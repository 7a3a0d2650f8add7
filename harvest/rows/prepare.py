"""What is checked and decided before rows are harvested, and the provenance that a store records.

Owns the checks that model and tokens belong together, what is decided once when a store is begun,
and the writer with its share of the memory. A command and a Dask worker prepare in the same way.
`plan` says which rows there are.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import torch
from pydantic import ValidationError

from ...machine import free_memory
from ...settings import differences, resolve
from ...store import StoreSpec, StoreWriter, TokenStore
from ...store.format.chunks.codecs import PRESETS
from ...store.format.spec import even_bucket_rows
from ...workers.cluster import n_local_workers
from ..model.families import family_of
from ..model.loading import LanguageModel, load_model
from ..model.sites import expand_sites, site_width
from ..model.vocabulary import check_context, tokenizer_fingerprint
from ..settings import HarvestSettings
from .batch_size import sequences_that_fit, sequences_that_run, share_of_memory
from .bucket_job import BucketHarvester
from .plan import Mask, Plan

_BATCH_SHARE = 0.25
"""Share of `memory_gib` for the rows of batches; the rest is for buckets."""


def resolved(settings: HarvestSettings, begun: StoreSpec | None) -> HarvestSettings:
    """The settings, with dtype, attention and batch of the begun store where they are left open.

    They are decided once a store, because they change the rows' last bits.
    """
    if begun is None:
        return settings
    left_open = {"dtype": "auto", "attention": "auto", "batch_sequences": None}
    known = {name for name, value in left_open.items() if getattr(settings, name) == value}
    taken = {name: value for name, value in begun.provenance.items() if name in known}
    options = {"storage_options": settings.storage_options}
    try:
        return HarvestSettings.model_validate(settings.model_dump() | options | taken)
    except ValidationError as error:
        raise ValueError(
            f"provenance of store {settings.store} must say how it was begun, got {taken}; choose "
            "another place"
        ) from error


def prepare(
    settings: HarvestSettings, begun: StoreSpec | None = None, lm: LanguageModel | None = None
) -> tuple[BucketHarvester, dict[str, Any]]:
    """Loads and checks model and tokens; returns the job and the rows' provenance.

    Args:
        begun: the spec of the store to continue; what was chosen for it is kept.
        lm: the model, if it is loaded already.
    """
    settings = resolved(settings, begun)
    tokens = TokenStore.open(settings.place(settings.tokens))
    sequences = tokens.sequences(settings.split)

    def check(tokenizer: Any, config: Any) -> None:
        expand_sites(settings.site, config.num_hidden_layers, family_of(config))
        _check_tokens(tokens, tokenizer, config, settings)

    model = _model(settings, check) if lm is None else lm
    if lm is not None:
        check(lm.tokenizer, lm.config)
    sites = expand_sites(settings.site, model.config.num_hidden_layers, family_of(model.config))
    masked = {*special_ids(tokens), *settings.mask_token}
    mask = Mask(tuple(sorted(masked)), prefix=tokens.provenance.get("masked_prefix", 0))
    stored = torch.bfloat16 if PRESETS[settings.codec].dtype == "bfloat16" else torch.float32
    job = BucketHarvester(
        model=model,
        sequences=sequences,
        mask=mask,
        sites=tuple(sites),
        batch_sequences=settings.batch_sequences or 0,
        stored=stored,
        outlier=settings.outlier,
        drop_nonfinite=settings.drop_nonfinite,
    )
    job = replace(job, batch_sequences=_batch_sequences(settings, job))
    return job, provenance(settings, tokens, job)


def _model(settings: HarvestSettings, check: Callable[[Any, Any], None]) -> LanguageModel:
    """The settings' model, loaded once `check` has seen its tokenizer and configuration."""
    return load_model(
        settings.model,
        settings.dtype,
        settings.device,
        settings.attention,
        device_map=settings.device_map,
        compile=settings.compile,
        check=check,
    )


def special_ids(tokens: TokenStore) -> tuple[int, ...]:
    """The ids of BOS, EOS and PAD, at which no activation is kept."""
    ids = (tokens.bos, tokens.eos, tokens.pad)
    return tuple(sorted({token for token in ids if token is not None}))


def store_spec(
    settings: HarvestSettings,
    rows: int,
    job: BucketHarvester,
    origin: dict[str, Any],
    begun: StoreSpec | None = None,
) -> StoreSpec:
    """The spec of the activation store.

    Sizes that the settings leave open stay as the store was begun: they are chosen from the number
    of rows, which may have grown since.
    """
    sizes: dict[str, Any] = {"bucket_rows": _bucket_rows(settings, begun)}
    if begun is not None and sizes["bucket_rows"] == begun.bucket_rows:
        sizes = begun.model_dump(include={"bucket_rows", "chunk_rows", "shard_rows"})
    return resolve(
        StoreSpec,
        sites={str(site): site_width(site, job.model.config) for site in job.sites},
        rows=rows,
        codec=settings.codec,
        seed=settings.seed,
        provenance=origin,
        versions=versions(),
        **sizes,
    )


def planned(settings: HarvestSettings, job: BucketHarvester, begun: StoreSpec | None) -> Plan:
    """The rows to harvest: those asked for, rounded up to whole buckets while there is text.

    A store that was begun with exactly the rows asked for, by an earlier version, keeps them.
    """
    given = begun is not None and begun.rows == settings.rows
    size = None if given else _bucket_rows(settings, begun)
    return Plan(job.sequences, job.mask, settings.rows, size or 1)


def _bucket_rows(settings: HarvestSettings, begun: StoreSpec | None) -> int | None:
    """The bucket size asked for, or the begun store's, or one that divides the rows evenly; None
    leaves the choice to the store."""
    if settings.bucket_rows is not None:
        return settings.bucket_rows
    if begun is not None:
        return begun.bucket_rows
    return None if settings.rows is None else even_bucket_rows(settings.rows)


def say_rounded(settings: HarvestSettings, spec: StoreSpec) -> None:
    """Says on stderr that other rows are harvested than were asked for."""
    if settings.rows not in (None, spec.rows):
        end = ", where the text ends" if spec.rows % spec.bucket_rows else ""
        print(
            f"rows come in whole buckets of {spec.bucket_rows:,}: {spec.rows:,} instead of"
            f" {settings.rows:,}{end}",
            file=sys.stderr,
        )


def versions() -> dict[str, str]:
    """Versions of the libraries that compute the rows."""
    return {name: version(name) for name in ("torch", "transformers")}


def warn_of_versions(spec: StoreSpec) -> None:
    """Says on stderr that the store was begun with other libraries than this process has."""
    if not spec.versions:  # begun before versions were recorded
        return
    if changed := differences(spec.versions, versions()):
        print(
            f"the store was begun with other versions ({'; '.join(changed)}): rows harvested now "
            "may differ from its earlier ones in their last bits",
            file=sys.stderr,
        )


def provenance(
    settings: HarvestSettings, tokens: TokenStore, job: BucketHarvester
) -> dict[str, Any]:
    """Everything that decides the rows' values and is not in the store's own spec."""
    return {
        "model": job.model.name,
        "model_fingerprint": job.model.fingerprint,
        "tokenizer": tokenizer_fingerprint(job.model.tokenizer),
        "tokens": tokens.fingerprint,
        "split": settings.split,
        "context": tokens.context,
        "masked_token_ids": list(job.mask.token_ids),
        "masked_prefix": job.mask.prefix,
        "outlier": job.outlier,
        "drop_nonfinite": job.drop_nonfinite,
        "device": job.model.device.type,
        "dtype": job.model.dtype,
        "attention": job.model.attention,
        "compile": job.model.compiled,
        "batch_sequences": job.batch_sequences,
    }


def open_writer(
    settings: HarvestSettings, spec: StoreSpec, background: bool = False
) -> StoreWriter:
    """The store's writer, with its share of the memory.

    The memory is divided evenly between the bucket that fills, with `background` the one that is
    sealed meanwhile, and for an object store the shards on their way.
    """
    store = settings.place(settings.store)
    shares = 1 + background + store.is_remote
    share = int(settings.memory_gib * 2**30 * (1 - _BATCH_SHARE)) // shares
    return StoreWriter.open(
        store,
        spec,
        memory_bytes=share,
        drop_nonfinite=settings.drop_nonfinite or settings.outlier is not None,
        background=background,
    )


def _batch_sequences(settings: HarvestSettings, job: BucketHarvester) -> int:
    """Sequences in a batch: as the settings or the begun store say, or as the memory allows."""
    if settings.batch_sequences is not None:
        return settings.batch_sequences
    free = free_memory(job.model.device)
    if job.model.device.type == "cpu":
        free = share_of_memory(free, job.model.n_bytes, n_local_workers(settings.dask))
    # Rows of two batches: one leaves the model while the other is put into its bucket.
    n = sequences_that_fit(job, free, int(settings.memory_gib * 2**30 * _BATCH_SHARE))
    return n if job.model.device.type == "cpu" else sequences_that_run(job, n)


def begun_spec(settings: HarvestSettings) -> StoreSpec | None:
    """The spec of the store that is there; None if nothing is.

    Raises:
        ValueError: something else is there.
    """
    return StoreWriter.begun(settings.place(settings.store))


def _check_tokens(
    tokens: TokenStore, tokenizer: Any, config: Any, settings: HarvestSettings
) -> None:
    """Refuses tokens of another tokenizer, or sequences too long for the model."""
    ours, theirs = tokenizer_fingerprint(tokenizer), tokens.provenance.get("tokenizer")
    if ours != theirs:
        raise ValueError(
            f"token store {settings.tokens} must be made with the tokenizer of {settings.model} "
            f"({ours}), got one made with another ({theirs}); tokenize again with --model "
            f"{settings.model}"
        )
    check_context(tokens.context, config, settings.model)
