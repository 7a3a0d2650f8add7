"""Tokenize: from text to a token store.

Owns the settings of the stage, the tokenizer's use, and the split into training and held-out
sequences. Reading is `documents`' business, packing and permuting `packing`'s.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from ..console import progress
from ..settings import Settings, differences
from ..store import TokenStore
from .documents import Document, ReadReport, RowOptions, is_held_out, read_documents
from .encoding import chat_wrapping, token_ids
from .model import check_context, load_tokenizer, tokenizer_fingerprint
from .packing import Packer, Spool, Wrapper
from .record import write_settings
from .sources import expand, sizes

TRAIN, HELD_OUT = "train", "held_out"

_BATCH_CHARACTERS = 2**20
_MAX_SUBSETS = 100


class TokenizeSettings(Settings):
    """What `scopeworks tokenize` does."""

    model: str
    """Folder or hub id of the Gemma 2 whose tokenizer is used."""
    text: list[str] = Field(min_length=1)
    """Files, folders, globs, fsspec URLs, hf:NAME for a hub data set, or - for standard input."""
    out: str
    """Where the token store is written: a folder or an fsspec URL."""
    context: int = Field(default=1024, ge=2)
    """Tokens per sequence, BOS included; 1,024 in the report (Section 3.1)."""
    packing: Literal["concatenate", "document", "chat"] = "concatenate"
    """Documents one after the other with EOS between them; or each alone, padded; or each alone as
    a user's turn in the chat template (for instruction-tuned models), whose prefix gives no row."""
    held_out: float = Field(default=0.05, ge=0.0, lt=1.0)
    """Share of the documents, chosen by a hash of their text, that is never trained on."""
    seed: int = Field(default=0, ge=0)
    """Seed of the sequences' order."""
    tokens: int | None = Field(default=None, gt=0)
    """Training tokens after which reading stops; by default all text is read."""
    text_field: str = "text"
    """Field of a row (JSON lines, Parquet) that holds its text; dotted for nested rows."""
    subset_field: str | None = None
    """Field that names a row's subset; held-out text is then also written subset by subset."""
    skip_bad: bool = False
    """Count documents that cannot be read and go on."""


@dataclass
class TokenizeReport:
    """What became of the text."""

    already_done: bool = False
    """Whether the store was there before, made by the same settings from the same files."""

    read: ReadReport = field(default_factory=ReadReport)
    sequences: dict[str, int] = field(default_factory=dict)
    """Split -> sequences."""
    left_over_tokens: int = 0
    """Tokens at the end of each split that fill no sequence."""

    def __str__(self) -> str:
        written = ", ".join(f"{n:,} {split}" for split, n in self.sequences.items())
        if self.already_done:
            return f"already complete by the same settings: {written} sequences"
        return f"{self.read}\nwrote {written} sequences; {self.left_over_tokens:,} tokens left over"


def tokenize(settings: TokenizeSettings, scratch_dir: Path | None = None) -> TokenizeReport:
    """Tokenizes text into a token store with the splits `train` and `held_out`.

    Same text and settings give the same store, bit for bit. A store that is already complete is
    left as it is if it was made by the same settings from files of the same sizes.

    Args:
        settings: see `TokenizeSettings`.
        scratch_dir: where the sequences wait, 4 bytes a token; the system's temporary folder by
            default.

    Raises:
        OSError: text, model or output cannot be read or written.
        ValueError: text yields no full sequence, the context is longer than the model's, or the
            output holds something else.
    """
    _check_out(settings)
    tokenizer, config = load_tokenizer(settings.model)
    check_context(settings.context, config, settings.model)
    new_packer, masked_prefix = _packing(settings, tokenizer)
    provenance = _provenance(settings, tokenizer) | {"masked_prefix": masked_prefix}
    if (done := _already_done(settings, provenance)) is not None:
        return done
    special = {name: getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    store = TokenStore.create(
        settings.out, context=settings.context, provenance=provenance, **special
    )
    report = TokenizeReport()
    with ExitStack() as stack:
        splits = _Splits(settings, new_packer, scratch_dir, stack)
        _read_into(splits, tokenizer, settings, report)
        spools = splits.permuted(report)
        store.write(spools)
    report.sequences = {name: len(spool) for name, spool in spools.items()}
    write_settings(settings.out, "tokenize", settings)
    return report


class _Splits:
    """One packer and one spool for every split, made when its first document comes."""

    def __init__(
        self,
        settings: TokenizeSettings,
        new_packer: Callable[[], Packer | Wrapper],
        scratch_dir: Path | None,
        stack: ExitStack,
    ):
        self._settings, self._new_packer = settings, new_packer
        self._scratch_dir, self._stack = scratch_dir, stack
        self._splits: dict[str, tuple[Packer | Wrapper, Spool]] = {}

    def add(self, document: Document, ids: np.ndarray) -> None:
        """Packs one document into its split or splits."""
        for name in self._names(document):
            packer, spool = self._split(name)
            spool.append(packer.add([ids]))

    @property
    def train_tokens(self) -> int:
        """Tokens in full training sequences so far."""
        return len(self._split(TRAIN)[1]) * self._settings.context

    def permuted(self, report: TokenizeReport) -> dict[str, Spool]:
        """The splits that hold a sequence, in permuted order.

        Raises:
            ValueError: there is no training sequence.
        """
        report.left_over_tokens = sum(packer.left_over for packer, _ in self._splits.values())
        if not len(self._split(TRAIN)[1]):
            raise ValueError(
                f"text must fill at least one training sequence of {self._settings.context} "
                f"tokens, got {report.left_over_tokens} tokens; pass more text or a smaller "
                f"--context ({report.read})"
            )
        seed = self._settings.seed
        return {
            name: spool.permute(seed, name)
            for name, (_, spool) in sorted(self._splits.items())
            if len(spool)
        }

    def _names(self, document: Document) -> list[str]:
        """The splits a document belongs to."""
        if not is_held_out(document.text, self._settings.held_out):
            return [TRAIN]
        if self._settings.subset_field is None:
            return [HELD_OUT]
        return [HELD_OUT, f"{HELD_OUT}.{re.sub(r'[^A-Za-z0-9_-]+', '_', document.subset)}"]

    def _split(self, name: str) -> tuple[Packer | Wrapper, Spool]:
        if name not in self._splits:
            if len(self._splits) > _MAX_SUBSETS:
                raise ValueError(
                    f"subset_field must name at most {_MAX_SUBSETS} subsets, got more with "
                    f"{self._settings.subset_field!r}; choose a coarser field"
                )
            context = self._settings.context
            spool = self._stack.enter_context(Spool(context, self._scratch_dir))
            self._splits[name] = self._new_packer(), spool
        return self._splits[name]


def _read_into(
    splits: _Splits, tokenizer: Any, settings: TokenizeSettings, report: TokenizeReport
) -> None:
    """Reads and packs until the text or the budget ends."""
    options = RowOptions(settings.text_field, settings.subset_field)
    documents = read_documents(settings.text, options, report.read, settings.skip_bad)
    with progress("tokenize", None, "tokens") as bar:
        for batch in _batches(documents):
            for document, ids in zip(
                batch, token_ids(tokenizer, [document.text for document in batch]), strict=True
            ):
                splits.add(document, ids)
                bar.advance(len(ids), documents=report.read.documents)
                if settings.tokens is not None and splits.train_tokens >= settings.tokens:
                    return


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Documents by about a million characters, so that the tokenizer's threads have work."""
    batch, characters = [], 0
    for document in documents:
        batch.append(document)
        characters += len(document.text)
        if characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _check_out(settings: TokenizeSettings) -> None:
    """Refuses an output inside a folder of text, which would read it the next time."""
    if "://" in settings.out:
        return
    out = Path(settings.out).expanduser().resolve()
    for path in settings.text:
        if Path(path).is_dir() and out.is_relative_to(Path(path).resolve()):
            raise ValueError(
                f"out must lie outside the text folder {path}, got {settings.out}; "
                "choose another place"
            )


def _packing(
    settings: TokenizeSettings, tokenizer: Any
) -> tuple[Callable[[], Packer | Wrapper], int]:
    """What makes a split's packer, and how many first positions of a sequence give no row."""
    bos, eos, pad = (getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad"))
    context = settings.context
    if settings.packing == "concatenate":
        return partial(Packer, context, bos, eos), 0
    if settings.packing == "document":
        return partial(Wrapper, context, [bos], [], pad), 0
    before, after = chat_wrapping(tokenizer)
    return partial(Wrapper, context, before, after, pad), len(before)


def _provenance(settings: TokenizeSettings, tokenizer: Any) -> dict[str, Any]:
    """What decides the tokens: the settings, the tokenizer, and the files by name and size."""
    files = sizes(expand(settings.text))
    listed = json.dumps(files, sort_keys=True).encode("utf-8")
    return {
        "settings": settings.model_dump(mode="json", exclude={"out"}),
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "files": None if files is None else hashlib.blake2b(listed, digest_size=8).hexdigest(),
    }


def _already_done(settings: TokenizeSettings, provenance: dict[str, Any]) -> TokenizeReport | None:
    """The report of a complete store of the same provenance; None if there is no store.

    Raises:
        ValueError: the store there has another provenance.
    """
    try:
        store = TokenStore.open(settings.out)
    except FileNotFoundError:
        return None
    old = store.provenance
    changed = differences(
        old.get("settings", {}) | {name: old.get(name) for name in ("tokenizer", "files")},
        provenance["settings"] | {name: provenance[name] for name in ("tokenizer", "files")},
    )
    if changed or provenance["files"] is None:
        why = "; ".join(changed) or "its text cannot be compared with what it was then"
        raise ValueError(
            f"token store {settings.out} is complete and was made otherwise: {why}; "
            "choose another place or the old settings"
        )
    return TokenizeReport(already_done=True, sequences=dict(store.splits))
