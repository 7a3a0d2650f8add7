"""The token store: sequences of token ids, which `harvest.tokens` packs and permutes.

Owns the arrays `<split>` [n_sequences, context] uint32 in one Zarr v3 group. Its root document is
written last: a token store is complete or does not exist. See docs/format.md.
"""

import hashlib
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ..foreign import Document, short
from ..machine import available_cores
from .format.arrays import ArrayLayout, DamagedStoreError, ShardRecord
from .format.chunks.codecs import LABELS
from .format.commit_rules import check_shards
from .format.root import stores_below
from .format.spec import (
    DOCUMENT_BYTES,
    MAX_ROWS,
    NAME_PATTERN,
    VERSION,
    checked_attributes,
    checksum,
    encode_json,
    group_document,
)
from .place.locate import locate
from .place.location import Location, StorageOptions, objects_below, read_bounded
from .place.place import INSIDE, AnyPlace, Place
from .read.array_reader import ArrayReader
from .read.sequences import StoredSequences
from .write.split import write_split

FORMAT = "token-store"
MARKER = "unfinished.json"
"""Object that marks a place where a token store is being written."""

_OURS = re.compile(rf"{NAME_PATTERN}/(zarr\.json|c/\d+/0)")
"""Form of the keys of a split."""

_CHUNK_BYTES = 2**20
_SHARD_CHUNKS = 64

_TokenId = Annotated[int, Field(ge=0, lt=2**32)]
_Count = Annotated[int, Field(ge=0, le=MAX_ROWS)]


class _SplitDocument(Document):
    sequences: int = Field(ge=1, le=MAX_ROWS)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    shards: list[tuple[_Count, _Count, _TokenId]]


class _RootDocument(Document):
    """What a token store's root must hold."""

    context: int = Field(ge=2, le=2**24)
    bos: _TokenId | None
    eos: _TokenId | None
    pad: _TokenId | None
    provenance: dict[str, Any]
    splits: dict[Annotated[str, Field(pattern=f"^{NAME_PATTERN}$")], _SplitDocument]


class TokenStore:
    """Sequences of token ids by split; see `create` and `open`.

    Attributes:
        context: tokens per sequence.
        bos, eos, pad: the special token ids, None where the tokenizer has none.
        provenance: where the text comes from, as the writer gave it.
    """

    def __init__(
        self,
        location: Location,
        *,
        context: int,
        bos: int | None,
        eos: int | None,
        pad: int | None,
        provenance: dict[str, Any],
        splits: dict[str, dict[str, Any]] | None = None,
        begun_before: bool = False,
        given: str | None = None,
    ):
        self.url, self._location = location.url, location
        self._given = given or location.url
        self.context, self.bos, self.eos, self.pad = context, bos, eos, pad
        self.provenance = provenance
        self._splits, self._begun_before = splits, begun_before

    @classmethod
    def create(
        cls,
        url: AnyPlace,
        *,
        context: int,
        bos: int | None,
        eos: int | None,
        pad: int | None,
        provenance: dict[str, Any] | None = None,
        storage_options: StorageOptions = None,
    ) -> "TokenStore":
        """Prepares a place for a token store, which `write` then fills.

        What a killed writer left there is overwritten.

        Args:
            url: path, URL or place, empty or of an unfinished token store.
            context: tokens per sequence, at least 2.
            provenance: where the text comes from, as JSON; not interpreted.

        Raises:
            FileExistsError: a complete token store is there.
            ValueError: something else is there, or `context` is below 2.
        """
        if context < 2:
            raise ValueError(f"context must be at least 2 tokens, got {context}")
        location = locate(url, storage_options)
        found = [name for name in location.children() if name != INSIDE]
        if "zarr.json" in found:
            _read_root(location)
            raise FileExistsError(
                f"{location.url} already holds a token store; use it, or choose another place"
            )
        if found and MARKER not in found:
            raise ValueError(
                f"{location.url} must be empty, but it holds {', '.join(found[:3])};"
                " choose another place"
            )
        location.sweep([MARKER, "zarr.json"])
        location.replace(MARKER, encode_json({"format": FORMAT}))
        return cls(
            location,
            context=context,
            bos=bos,
            eos=eos,
            pad=pad,
            provenance=provenance or {},
            begun_before=bool(found),
            given=Place.of(url).url,
        )

    @classmethod
    def open(cls, url: AnyPlace, storage_options: StorageOptions = None) -> "TokenStore":
        """Opens a complete token store.

        Raises:
            FileNotFoundError: there is no complete token store.
            ValueError: it is another kind of store, has another major version, or is damaged.
        """
        location = locate(url, storage_options)
        try:
            root, body = _read_root(location)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"no complete token store at {location.url}; "
                + (stores_below(location, FORMAT) or "`scopeworks tokenize` makes one")
            ) from error
        fields = {name: body[name] for name in _RootDocument.model_fields}
        store = cls(location, **fields, given=Place.of(url).url)
        for name, split in root.splits.items():
            layout = store._layout(name, split.sequences)
            try:
                check_shards([ShardRecord(*r) for r in split.shards], layout, 0, split.sequences)
            except ValueError as error:
                raise DamagedStoreError(f"{location.url}: split {name}: {error}") from error
        return store

    def as_setting(self) -> str:
        """The store's name in settings: its URL."""
        return self.url

    def __repr__(self) -> str:
        splits = self._splits or {}
        held = ", ".join(f"{name} {split['sequences']:,}" for name, split in splits.items())
        text = short(held, 200) or "not written yet"
        return f"TokenStore(sequences of {self.context:,} tokens: {text}; {self._given})"

    @property
    def splits(self) -> dict[str, int]:
        """Split -> number of sequences."""
        return {name: split["sequences"] for name, split in self._written().items()}

    @property
    def stored_bytes(self) -> int:
        """Bytes of all shards."""
        return sum(n for split in self._written().values() for _, n, _ in split["shards"])

    @property
    def fingerprint(self) -> str:
        """sha256 (hexadecimal) over context, special ids and every token: equal for equal token
        stores, wherever they are."""
        content = {name: split["sha256"] for name, split in self._written().items()}
        text = checksum({"splits": content, "ids": [self.context, self.bos, self.eos, self.pad]})
        digest = hashlib.sha256(text.encode())
        for name in sorted(content):
            digest.update(f"{name}={content[name]};".encode())
        return digest.hexdigest()

    def sequences(self, split: str) -> "StoredSequences":
        """The sequences of a split, uint32 [n, context]; read from the store when indexed.

        Raises:
            ValueError: there is no such split.
        """
        splits = self._written()
        if split not in splits:
            raise ValueError(f"split must be one of {', '.join(splits)}, got {split!r}")
        sizes = [ShardRecord(*record) for record in splits[split]["shards"]]
        layout = self._layout(split, splits[split]["sequences"])
        return StoredSequences(
            ArrayReader(self._location, layout, lambda shard: sizes[shard].n_bytes)
        )

    def write(self, splits: Mapping[str, Any]) -> None:
        """Writes every split, then the root document; after this the store exists.

        Args:
            splits: name -> [n, context] integers in 0 … 2^32 - 1, n >= 1, that can be sliced by
                rows (an array, a memory map or a tensor).

        Raises:
            ValueError: a split's name, shape, dtype or values are wrong, or it has no sequence.
        """
        if self._splits is not None:
            raise ValueError(f"token store {self.url} is complete; create another one")
        if not isinstance(splits, Mapping):
            got = type(splits).__name__
            raise ValueError(
                f"splits must be a dictionary name -> ids, got {got}; for example {{'train': ids}}"
            )
        splits = {name: _on_cpu(ids) for name, ids in splits.items()}
        for name, sequences in splits.items():
            if not hasattr(sequences, "shape"):
                got = type(sequences).__name__
                raise ValueError(f"split {name} must be an array [n, {self.context}], got {got}")
            if not re.fullmatch(NAME_PATTERN, name):
                raise ValueError(
                    f"split must be named by up to 200 letters, digits or _.-, got {name!r:.80}"
                )
            if len(sequences.shape) != 2 or sequences.shape[1] != self.context:
                raise ValueError(
                    f"split {name} must be [n, {self.context}], got {list(sequences.shape)}"
                )
            if np.dtype(sequences.dtype).kind not in "iu":
                raise ValueError(f"split {name} must be integers, got {sequences.dtype}")
            if not len(sequences):
                raise ValueError(f"split {name} must hold at least one sequence; give more text")
        with ThreadPoolExecutor(available_cores()) as pool:
            written = {
                name: write_split(self._location, self._layout(name, len(rows)), rows, pool)
                for name, rows in splits.items()
            }
        keys = [f"{name}/zarr.json" for name in written]
        for name, split in written.items():
            layout = self._layout(name, split["sequences"])
            keys += [layout.shard_key(shard) for shard, _, _ in split["shards"]]
        self._location.flush(keys)
        self._remove_stale(set(keys))
        body = {
            "format": FORMAT,
            "version": VERSION,
            "context": self.context,
            "bos": self.bos,
            "eos": self.eos,
            "pad": self.pad,
            "provenance": self.provenance,
            "splits": written,
        }
        self._location.replace("zarr.json", group_document(body | {"crc32c": checksum(body)}))
        self._location.remove(MARKER)
        self._splits = written

    def _remove_stale(self, keys: set[str]) -> None:
        """Removes splits and shards that a killed writer of another shape has left; plain Zarr
        would read them as part of this store."""
        if not self._begun_before:
            return
        for name in self._location.children():
            for key in objects_below(self._location, name):
                if key not in keys and _OURS.fullmatch(key):
                    self._location.remove(key)

    def _layout(self, split: str, sequences: int) -> ArrayLayout:
        """The array of a split: about 1 MiB a chunk, at most 64 chunks a shard."""
        chunk = max(1, min(_CHUNK_BYTES // (4 * self.context), sequences))
        shard = chunk * min(_SHARD_CHUNKS, -(-sequences // chunk))
        return ArrayLayout(split, sequences, self.context, chunk, shard, LABELS)

    def _written(self) -> dict[str, dict[str, Any]]:
        if self._splits is None:
            raise ValueError(f"token store {self.url} is not written yet; call write first")
        return self._splits


def _read_root(location: Location) -> tuple[_RootDocument, dict[str, Any]]:
    """The checked root document, and all its attributes as a dictionary."""
    data = read_bounded(location, "zarr.json", DOCUMENT_BYTES)
    return checked_attributes(_RootDocument, data, FORMAT, location.url)


def _on_cpu(ids: Any) -> Any:
    """A tensor of torch as an array; anything else as it is."""
    return ids.detach().cpu().numpy() if hasattr(ids, "detach") else ids
