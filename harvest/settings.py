"""Settings of the harvest stage's three commands, and how they travel to workers.

Owns names, defaults and the rules between settings. The commands themselves are in `tokens.run`,
`tokens.rollouts` and `rows.run`.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, field_validator, model_validator

from ..arguments import several
from ..settings import one_or_several
from ..store.place.options import StorageSettings
from ..store.place.place import Place
from .text.stdlib import STDLIB
from .text.text_file import is_stream

if TYPE_CHECKING:
    from .model.loading import LanguageModel


class StageSettings(StorageSettings):
    """What `tokenize` and `harvest` both take."""

    dask: str | None = None
    """local:N for N worker processes here, a Dask scheduler's address, or a scheduler file. By
    default this process does all the work."""


Several = Annotated[list[str], BeforeValidator(one_or_several), Field(min_length=1)]
"""One text or several."""

StorageSettingsT = TypeVar("StorageSettingsT", bound=StorageSettings)
StageSettingsT = TypeVar("StageSettingsT", bound=StageSettings)


class TokenizeSettings(StageSettings):
    """What `scopeworks tokenize` does."""

    model: str
    """Folder or hub id of the language model whose tokenizer is used; tiny_gemma2 ships."""
    text: Several
    """Files, folders, globs, fsspec URLs, hf:NAME for a hub data set, python:stdlib for Python's
    own sources, or - for standard input."""
    out: str
    """Where the token store is written: a folder or an fsspec URL."""
    context: int = Field(default=1024, ge=2)
    """Tokens per sequence, BOS included; 1,024 in the report (Section 3.1)."""
    packing: Literal["concatenate", "document", "chat"] = "concatenate"
    """How documents fill sequences: one after the other with EOS between them, or each alone.
    `chat` is each alone, as a user's turn in the chat template of an instruction-tuned model. The
    template's constant prefix gives no row."""
    held_out: float = Field(default=0.05, ge=0.0, lt=1.0)
    """Share of the documents, chosen by a hash of their text, that is never trained on."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the sequences' order."""
    tokens: int | None = Field(default=None, gt=0)
    """Training tokens after which reading stops; by default all text is read."""
    text_field: str = "text"
    """Field of a row (JSON lines, Parquet) that holds its text; dotted for nested rows."""
    subset_field: str | None = None
    """Field that names a row's subset; held-out text is then also written subset by subset."""
    min_characters: int = Field(default=1, ge=1)
    """Shorter documents are left out, and counted as too short."""
    skip_bad: bool = False
    """Count documents that cannot be read and go on. By default the first one is an error."""

    @model_validator(mode="after")
    def _check_options(self) -> "TokenizeSettings":
        _check_used(self.storage_options, [*self.text, self.out])
        return self


class HarvestSettings(StageSettings):
    """What `scopeworks harvest` does."""

    model: str
    """Folder or hub id of the language model, a Gemma 2 or 3; tiny_gemma2 ships."""
    tokens: str
    """URL of the token store."""
    store: str
    """URL of the activation store."""
    site: Several
    """Sites, as resid_post.12, mlp_out.0-12 or attn_out.*."""
    rows: int | None = Field(default=None, gt=0)
    """Rows to harvest, rounded up to whole buckets while there is text. By default all rows of the
    split."""
    split: str = "train"
    """Split of the token store."""
    codec: Literal["exact", "fast", "float32", "int8"] = "exact"
    """How rows are stored: bfloat16 (exact, or fast to write), float32, or rounded to int8."""
    bucket_rows: int | None = Field(default=None, gt=0)
    """Rows that are shuffled and committed together. By default about 10^6; less in a small store,
    so that it has at least eight buckets. The default divides the rows into buckets evenly."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the rows' order inside a bucket."""
    dtype: str = "auto"
    """Precision of the model: auto, bfloat16 or float32. `auto` takes what the store was begun
    with. For a new store it takes bfloat16, in which Gemma was trained, on CUDA and on CPUs with
    units for it, and float32 on other CPUs."""
    device: str = "auto"
    """cpu, cuda, cuda:1, …; auto takes cuda where there is one."""
    device_map: str | None = None
    """How accelerate spreads the layers over devices: auto, balanced, …. By default the model is on
    one device."""
    attention: str = "auto"
    """Attention implementation: one that computes what the model was trained with. `auto` takes
    what the store was begun with; for a new store eager for Gemma 2 and sdpa for Gemma 3."""
    compile: bool = False
    """Compile norms and MLPs with torch.compile; rows may differ in their last bits."""
    batch_sequences: int | None = Field(default=None, gt=0)
    """Sequences in one forward pass. By default what the store was begun with; for a new store as
    many as the free memory allows, up to 4,096 tokens on a CPU and 16,384 on a GPU."""
    memory_gib: float = Field(default=2.0, gt=0, le=2**20)
    """GiB for rows on their way to the store: buckets being filled and sealed, and batches. Buckets
    that need more wait in a file. The model and its forward pass need memory besides."""
    mask_token: list[Annotated[int, Field(ge=0, lt=2**32)]] = Field(default_factory=list)
    """Token ids whose rows are dropped besides those of BOS, EOS and PAD."""
    outlier: float | None = Field(default=None, gt=1)
    """Drop a token's rows if its norm at any site is over this many times the batch's median. By
    default none is dropped. Commits count the dropped rows."""
    drop_nonfinite: bool = False
    """Drop a token's rows if one of them holds NaN or Inf, and count them. By default a NaN or Inf
    stops the harvest."""

    @field_validator("mask_token", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return several(value)

    @model_validator(mode="after")
    def _check_options(self) -> "HarvestSettings":
        _check_used(self.storage_options, [self.tokens, self.store])
        return self


class RolloutSettings(StorageSettings):
    """What `scopeworks rollouts` does."""

    model: str
    """Folder or hub id of an instruction-tuned model; tiny_gemma2_it ships."""
    text: Several
    """Prompts: files, folders, globs, fsspec URLs or hf:NAME; a document, such as a line of a JSON
    lines file, is a prompt."""
    out: str
    """Where the token store is written: a folder or an fsspec URL."""
    n: int = Field(default=1024, gt=0)
    """Conversations; 1,024 in the report. If there are fewer prompts, some are answered more than
    once."""
    new_tokens: int = Field(default=512, gt=0)
    """Most tokens sampled for an answer; fewer where the context is full."""
    context: int = Field(default=1024, ge=2)
    """Most tokens of a conversation. Prompts that leave no space for an answer are left out, and
    counted."""
    temperature: float = Field(default=1.0, gt=0)
    """What logits are divided by; 1 in the report."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the prompts' order and of what is sampled."""
    text_field: str = "text"
    """Field of a row (JSON lines, Parquet) that holds its prompt; dotted for nested rows."""
    batch: int = Field(default=64, gt=0)
    """Conversations of prompts of one length that are sampled at once."""
    dtype: str = "auto"
    """Precision of the model: bfloat16 or float32; auto is what suits the device."""
    device: str = "auto"
    """cpu, cuda, cuda:1, …; auto takes cuda where there is one."""

    @model_validator(mode="after")
    def _check_options(self) -> "RolloutSettings":
        _check_used(self.storage_options, [*self.text, self.out])
        return self


def of_loaded(settings: StorageSettingsT, lm: "LanguageModel") -> StorageSettingsT:
    """The settings with a loaded model's dtype, device and attention.

    Raises:
        ValueError: the settings ask for others, or for workers, which load models of their own; or
            the model's weights have changed since it was loaded.
    """
    lm.check_unchanged()
    if getattr(settings, "dask", None) is not None:
        raise ValueError(
            "model must be a name with dask, since workers load their own, got the loaded "
            f"{lm.name}; pass its name"
        )
    has = {
        "dtype": lm.dtype,
        "device": str(lm.device),
        "attention": lm.attention,
        "compile": lm.compiled,
        "device_map": None,
    }
    own = {name: value for name, value in has.items() if name in type(settings).model_fields}
    for name in own.keys() & settings.model_fields_set:
        asked = getattr(settings, name)
        if asked not in ("auto", own[name], str(own[name]).partition(":")[0]):
            raise ValueError(
                f"{name} must be {own[name]} as the loaded model has it, got {asked}; leave it out"
            )
    return settings.model_copy(update=own)


def to_worker(settings: StageSettings) -> str:
    """All settings as text, storage options included: for a worker's memory, never for a file.

    Local paths are made absolute: a worker runs in another folder.
    """
    own = settings.model_dump(mode="json")
    values: dict[str, Any] = own | {"storage_options": settings.storage_options}
    for name in ("tokens", "store", "out", "text", "sae"):
        if isinstance(value := values.get(name), str):
            values[name] = everywhere(value)
        elif isinstance(value, list):
            values[name] = [everywhere(path) for path in value]
    for name in ("model", "norms_of"):
        # a name that is no folder is a hub id
        if (given := values.get(name)) and Path(given).is_dir():
            values[name] = everywhere(given)
    return json.dumps(values)


def everywhere(path: str) -> str:
    """A local path made absolute; URLs and names of text that is no file as they are."""
    if "://" in path or is_stream(path) or path == STDLIB:
        return path
    return str(Path(path).expanduser().absolute())


def from_driver(kind: type[StageSettingsT], text: str) -> StageSettingsT:
    """The settings that `to_worker` wrote."""
    return kind.model_validate_json(text)


def _check_used(storage_options: dict[str, Any] | None, urls: Iterable[str]) -> None:
    """Raises ValueError for storage options where no URL uses them."""
    if storage_options and not any(Place(url).is_remote for url in urls):
        raise ValueError(
            f"storage_options must be for a URL such as gs://bucket/name, got "
            f"{', '.join(storage_options)} for local paths only; leave them out"
        )
