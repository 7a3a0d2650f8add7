"""Part files: where a part's token ids wait for packing.

Owns their format. A file is batches, one after the other. A batch is, all numbers little endian:

| bytes | what |
|---|---|
| 8 | n_header, uint64: bytes of the header |
| 8 | n_ids, uint64: number of token ids |
| n_header | JSON: each document's split and length, what was read, crc32 of the ids' bytes |
| 4 · n_ids | the ids, uint32, document after document |
"""

import io
import json
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import NonNegativeInt

from ...foreign import Document, read_document
from ...store.place.location import Location
from ..text.documents import ReadReport
from ..text.text_file import TextFile

_READ_BYTES = 2**22
_LENGTHS = struct.Struct("<QQ")  # n_header, n_ids


@dataclass(frozen=True)
class TextPart:
    """Files that are tokenized together.

    Attributes:
        sources: in reading order.
        key: name of the part's file; "" for a stream, which is never kept in one.
    """

    sources: tuple[TextFile, ...]
    key: str

    @property
    def files(self) -> tuple[str, ...]:
        """The files' names."""
        return tuple(source.path for source in self.sources)


@dataclass(frozen=True)
class TokenizedTexts:
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


def write_part(location: Location, part: TextPart, batches: Iterable[TokenizedTexts]) -> None:
    """Writes a part's file, atomically, a batch at a time."""
    location.write(part.key, map(_to_bytes, batches))


def read_part(location: Location, part: TextPart) -> Iterator[TokenizedTexts]:
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
                if left < 0:  # checked before memory is taken
                    raise ValueError(f"a batch must end within its {source.size} bytes")
                yield _from_bytes(file.read(n_header), file.read(4 * n_ids))
            except (ValueError, struct.error) as error:
                raise ValueError(
                    f"part {location.url}/{part.key} is damaged ({error}); remove it and run the "
                    "same command again"
                ) from error


def _to_bytes(batch: TokenizedTexts) -> bytes:
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
    """The header before a batch's ids."""

    splits: list[str]
    lengths: list[NonNegativeInt]
    crc32: NonNegativeInt
    read: _Read


def _from_bytes(text: bytes, ids: bytes) -> TokenizedTexts:
    header = read_document(_Header, text, "a batch's header")
    if zlib.crc32(ids) != header.crc32:
        raise ValueError("its checksum is wrong")
    if len(header.splits) != len(header.lengths) or 4 * sum(header.lengths) != len(ids):
        raise ValueError("its documents are not those of its header")
    read = header.read
    report = ReadReport(read.files, read.documents, read.characters, Counter(read.skipped))
    return TokenizedTexts(header.splits, header.lengths, np.frombuffer(ids, "<u4"), report)


class _Object(io.RawIOBase):
    """An object of a location, as a file that is read from its start."""

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
