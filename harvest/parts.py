"""Parts: text cut into pieces of work, and the files in which a part's token ids wait for packing.

Owns the cutting, the identity of a part and the format of its file. A part's content depends on its
files and the settings alone, so any process may make it, in any order, again if need be; one that
is there need not be made again. Who makes which is `tokenize`'s and `part_tasks`' business.

A part's file is a run of batches, each: length of the header and number of ids (two uint64, little
endian), the header (JSON: documents' lengths and splits, what was read, crc32 of the ids), the ids
(uint32, little endian).
"""

import hashlib
import io
import json
import re
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import NonNegativeInt

from ..foreign import Document, read_document
from ..store.beside import beside
from ..store.files import leftovers
from ..store.local import target_of
from ..store.location import Location, locate
from ..store.options import is_remote, options_for
from .documents import ReadReport, RowOptions, documents_in
from .encoding import grouped, token_ids
from .settings import TokenizeSettings
from .splits import TRAIN, split_of
from .text_file import Source, is_stream

PART_BYTES = 2**25
"""A part is files of about so many bytes, or one larger file."""

_BATCH_CHARACTERS = 2**20  # so that the tokenizer's threads have work
_READ_BYTES = 2**22
_VERSION = 1
_DECIDING = {"text_field", "subset_field", "min_characters", "skip_bad", "held_out"}
_LENGTHS = struct.Struct("<QQ")
_KEY = re.compile("[0-9a-f]{24}")
"""What the name of a part's file looks like."""


@dataclass(frozen=True)
class Part:
    """Files that are tokenized together.

    Attributes:
        sources: in reading order.
        key: name of the part's file; "" for a stream, whose ids are never kept.
    """

    sources: tuple[Source, ...]
    key: str

    @property
    def files(self) -> tuple[str, ...]:
        """The files' names."""
        return tuple(source.path for source in self.sources)


@dataclass(frozen=True)
class Batch:
    """Some documents' token ids.

    Attributes:
        splits: every document's split.
        lengths: every document's number of ids.
        ids: uint32, all documents' ids one after the other.
        read: what was read and skipped for this batch.
    """

    splits: list[str]
    lengths: list[int]
    ids: np.ndarray
    read: ReadReport

    def documents(self) -> Iterator[tuple[str, np.ndarray]]:
        """(split, ids [n]) of every document."""
        ends = np.cumsum(self.lengths, dtype=np.int64)
        for split, length, end in zip(self.splits, self.lengths, ends, strict=True):
            yield split, self.ids[end - length : end]


def cut(sources: Iterable[Source], settings: TokenizeSettings, tokenizer: str) -> list[Part]:
    """Cuts files into parts, the same whoever does it: neighbours share one up to `PART_BYTES`.

    Args:
        sources: in reading order.
        tokenizer: its fingerprint.
    """
    parts: list[Part] = []
    group: list[Source] = []
    for source in sources:
        stream = is_stream(source.path)
        size = sum(one.size or PART_BYTES for one in group)
        if group and (stream or size + (source.size or PART_BYTES) > PART_BYTES):
            parts.append(_part(group, settings, tokenizer))
            group = []
        if stream:
            parts.append(Part((source,), ""))
        else:
            group.append(source)
    return [*parts, _part(group, settings, tokenizer)] if group else parts


def parts_location(settings: TokenizeSettings) -> Location:
    """Where the parts wait: beside the token store, where all workers reach it."""
    url = beside(settings.out, ".parts")
    return locate(url, options_for(url, settings.storage_options))


def remove_parts(settings: TokenizeSettings) -> None:
    """Removes the parts that wait beside the token store, one by one, whatever command made them;
    nothing else that lies there."""
    location = parts_location(settings)
    for name in location.children():
        if _KEY.fullmatch(name):
            location.remove(name)
    sweep_parts(location)
    if not is_remote(location.url):
        with suppress(OSError):  # somebody else's files are in it
            Path(location.url).rmdir()


def sweep_parts(location: Location) -> None:
    """Removes what killed commands have left of parts that they were writing."""
    if not is_remote(location.url):
        location.sweep(target_of(partial) for partial in leftovers(Path(location.url)))


def make_part(part: Part, settings: TokenizeSettings, tokenizer: Any) -> Iterator[Batch]:
    """Yields a part's batches, tokenized here, up to more training tokens than are asked for.

    Raises:
        OSError, ValueError: as `read_documents`.
    """
    options = RowOptions(settings.text_field, settings.subset_field, settings.storage_options)
    report, limit = ReadReport(), token_limit(settings)
    documents = documents_in(
        part.sources, options, report, settings.skip_bad, settings.min_characters
    )
    seen, n_train = ReadReport(), 0
    for texts in grouped(documents, lambda document: len(document.text), _BATCH_CHARACTERS):
        ids = token_ids(tokenizer, [document.text for document in texts])
        batch = Batch(
            splits=[split_of(document, settings) for document in texts],
            lengths=[len(one) for one in ids],
            ids=np.concatenate(ids),
            read=report.since(seen),
        )
        yield batch
        seen = report.copy()
        n_train += sum(n for s, n in zip(batch.splits, batch.lengths, strict=True) if s == TRAIN)
        if limit is not None and n_train >= limit:
            return
    yield Batch([], [], np.empty(0, np.uint32), report.since(seen))


def write_part(location: Location, part: Part, batches: Iterable[Batch]) -> None:
    """Writes a part's file, atomically, a batch at a time."""
    location.write(part.key, map(_to_bytes, batches))


def read_part(location: Location, part: Part) -> Iterator[Batch]:
    """Yields the batches of a part's file.

    Raises:
        OSError: the file is not there or cannot be read.
        ValueError: it is damaged.
    """
    source = _Object(location, part.key)
    left = source.size
    with io.BufferedReader(source, _READ_BYTES) as file:
        while lengths := file.read(_LENGTHS.size):
            try:
                n_header, n_ids = _LENGTHS.unpack(lengths)
                left -= _LENGTHS.size + n_header + 4 * n_ids
                if left < 0:  # before memory is taken
                    raise ValueError(f"a batch must end within its {source.size} bytes")
                yield _from_bytes(file.read(n_header), file.read(4 * n_ids))
            except (ValueError, struct.error) as error:
                raise ValueError(
                    f"part {location.url}/{part.key} is damaged ({error}); remove it and run the "
                    "same command again"
                ) from error


def token_limit(settings: TokenizeSettings) -> int | None:
    """Training tokens of one part that fill the whole budget, whatever the other parts hold."""
    return None if settings.tokens is None else settings.tokens + settings.context


def _part(group: list[Source], settings: TokenizeSettings, tokenizer: str) -> Part:
    """A part whose key tells it from every other: by its files' state and all that decides ids."""
    identity = {
        "version": _VERSION,
        "tokenizer": tokenizer,
        "files": [asdict(source) for source in group],
        "limit": token_limit(settings),
        **settings.model_dump(include=_DECIDING),
    }
    text = json.dumps(identity, sort_keys=True).encode("utf-8")
    return Part(tuple(group), hashlib.blake2b(text, digest_size=12).hexdigest())


def _to_bytes(batch: Batch) -> bytes:
    ids = np.ascontiguousarray(batch.ids, dtype="<u4").tobytes()
    header = {"splits": batch.splits, "lengths": batch.lengths, "read": vars(batch.read)}
    text = json.dumps(header | {"crc32": zlib.crc32(ids)}).encode("utf-8")
    return b"".join((_LENGTHS.pack(len(text), len(ids) // 4), text, ids))


class _Read(Document):
    """What was read for a batch: the fields of `ReadReport`."""

    files: NonNegativeInt
    documents: NonNegativeInt
    characters: NonNegativeInt
    skipped: dict[str, NonNegativeInt]


class _Header(Document):
    """What stands before a batch's ids."""

    splits: list[str]
    lengths: list[NonNegativeInt]
    crc32: NonNegativeInt
    read: _Read


def _from_bytes(text: bytes, ids: bytes) -> Batch:
    header = read_document(_Header, text, "a batch's header")
    if zlib.crc32(ids) != header.crc32:
        raise ValueError("its checksum is wrong")
    if len(header.splits) != len(header.lengths) or 4 * sum(header.lengths) != len(ids):
        raise ValueError("its documents are not those of its header")
    read = header.read
    report = ReadReport(read.files, read.documents, read.characters, Counter(read.skipped))
    return Batch(header.splits, header.lengths, np.frombuffer(ids, "<u4"), report)


class _Object(io.RawIOBase):
    """An object of a location as a file to be read from its start."""

    def __init__(self, location: Location, key: str):
        self._location, self._key, self._position = location, key, 0
        self.size = location.size(key)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        out = np.frombuffer(buffer, np.uint8)[: self.size - self._position]
        n = self._location.read_into(self._key, self._position, out) if len(out) else 0
        self._position += n
        return n
