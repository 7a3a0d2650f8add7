"""Sharded arrays: Zarr v3 arrays of rows, written shard by shard.

Owns the arithmetic of rows, chunks and shards, the array's `zarr.json`, and the shard object:
encoded chunks one after the other, then the index (`shard_index`). This is Zarr's own
`sharding_indexed` layout. It is written here and read by `array_reader`, because the overhead of
zarr-python costs more time than the decompression. tests/store/format/test_format.py compares with
zarr, Dask and TensorStore.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor, Future, wait
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import google_crc32c
import numpy as np

from ..place.uploads import Sink
from .chunks.codecs import CRC_BYTES, STORAGE, Codec
from .chunks.shard_index import encode_index, index_bytes

_AHEAD = 4
"""Chunks that are encoded while an earlier one is written."""


class DamagedStoreError(OSError):
    """Stored data is not what was committed; the text names array, shard and chunk."""


@dataclass(frozen=True)
class ArrayLayout:
    """A sharded array of `rows` rows: `[rows, width]`, or `[rows]` when width is None."""

    path: str
    rows: int
    width: int | None
    chunk_rows: int
    shard_rows: int
    codec: Codec

    @property
    def n_shards(self) -> int:
        """Shards of the whole array; the last one may be partly filled."""
        return -(-self.rows // self.shard_rows)

    @property
    def shard_chunks(self) -> int:
        """Chunk places in a shard's index."""
        return self.shard_rows // self.chunk_rows

    @property
    def index_bytes(self) -> int:
        """Bytes of the index at a shard's end."""
        return index_bytes(self.shard_chunks)

    @property
    def max_chunk_bytes(self) -> int:
        """The most bytes that an encoded chunk can have."""
        return self.codec.longest(self.chunk_bytes)

    @property
    def max_shard_bytes(self) -> int:
        """The most bytes that a shard's object can have."""
        return self.shard_chunks * self.max_chunk_bytes + self.index_bytes

    def shard_key(self, shard: int) -> str:
        """Key of a shard's object."""
        return f"{self.path}/c/{shard}" + ("" if self.width is None else "/0")

    def shape(self, rows: int) -> tuple[int, ...]:
        """Shape of `rows` rows of this array."""
        return (rows,) if self.width is None else (rows, self.width)

    def empty(self, rows: int) -> np.ndarray:
        """An uninitialised array for `rows` rows, in the storage dtype."""
        return np.empty(self.shape(rows), dtype=STORAGE[self.codec.dtype])

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk before compression."""
        return self.chunk_rows * (self.width or 1) * self.codec.itemsize

    def metadata(self) -> dict[str, Any]:
        """The array's `zarr.json`."""
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.shape(self.rows)),
            "data_type": self.codec.dtype,
            "chunk_grid": _regular(self.shape(self.shard_rows)),
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": 0 if self.codec.dtype in ("uint32", "int8") else 0.0,
            "codecs": [
                {
                    "name": "sharding_indexed",
                    "configuration": {
                        "chunk_shape": list(self.shape(self.chunk_rows)),
                        "codecs": self.codec.chain(),
                        "index_codecs": [
                            {"name": "bytes", "configuration": {"endian": "little"}},
                            {"name": "crc32c"},
                        ],
                        "index_location": "end",
                    },
                }
            ],
            "attributes": {},
            "dimension_names": ["row"] if self.width is None else ["row", "channel"],
        }


def _regular(shape: tuple[int, ...]) -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": list(shape)}}


@dataclass(frozen=True)
class ShardRecord:
    """What a commit says of one shard object."""

    shard: int
    n_bytes: int
    crc32c: int
    """Checksum of the chunks' crc32c, one after the other, and of the index. A checksum of the
    whole object could not tell shards of equal lengths apart: data followed by its own CRC has a
    constant CRC."""


class ChunkTally(Protocol):
    """A total over an array's chunks, added up while they are encoded: sums, or a digest."""

    def of(self, stored: np.ndarray) -> Any:
        """The contribution of a chunk's rows; called by several threads at once."""
        ...

    def add(self, part: Any) -> None:
        """Adds the contribution of the next chunk; called in the order of storage."""
        ...


def write_shard(
    sink: Sink,
    layout: ArrayLayout,
    shard: int,
    rows: int,
    fetch: Callable[[int, int], np.ndarray],
    pool: Executor,
    tally: ChunkTally | None = None,
) -> ShardRecord:
    """Encodes and writes the first `rows` rows of a shard.

    Args:
        sink: where the shard's object is written.
        shard: number of the shard in the array.
        fetch: (start, stop) within the shard -> those rows, contiguous, in the storage dtype;
            called by several threads of the pool at once. A last chunk that is not full is padded
            with zeros, as Zarr requires.
        pool: threads that fetch, tally and compress chunks.
        tally: gets the rows of every chunk.
    """
    record: list[ShardRecord] = []

    def parts(chunks: Iterator[np.ndarray]) -> Iterator[bytes | memoryview]:
        lengths, crc = [], 0
        for encoded in chunks:
            lengths.append(len(encoded))
            crc = google_crc32c.extend(crc, encoded[-CRC_BYTES:])  # the chunk's own crc32c
            yield encoded.data
        # Without the index's own crc32c: followed by it, the index would not change the result.
        tail = encode_index(lengths, layout.shard_chunks)
        crc = google_crc32c.extend(crc, tail[:-CRC_BYTES])
        record.append(ShardRecord(shard, sum(lengths) + len(tail), crc))
        yield tail

    with closing(_encoded_chunks(layout, rows, fetch, pool, tally)) as chunks:
        sink.write(layout.shard_key(shard), parts(chunks))
    return record[0]


def _encoded_chunks(
    layout: ArrayLayout,
    rows: int,
    fetch: Callable[[int, int], np.ndarray],
    pool: Executor,
    tally: ChunkTally | None,
) -> Generator[np.ndarray, None, None]:
    """Encoded chunks in order; a few are encoded ahead in the pool.

    A chunk is valid until the next one is requested: its memory is reused.
    """
    n_bytes = layout.codec.max_encoded_bytes(layout.chunk_bytes)
    buffers = [np.empty(n_bytes, dtype=np.uint8) for _ in range(_AHEAD + 1)]
    ahead: deque[Future[tuple[np.ndarray, Any]]] = deque()

    def made(start: int, out: np.ndarray) -> tuple[np.ndarray, Any]:
        block = fetch(start, min(start + layout.chunk_rows, rows))
        part = None if tally is None else tally.of(block)
        return layout.codec.encode(_padded(layout, block), out), part

    def next_one() -> np.ndarray:
        encoded, part = ahead.popleft().result()
        if tally is not None:
            tally.add(part)
        return encoded

    try:
        for chunk, start in enumerate(range(0, rows, layout.chunk_rows)):
            ahead.append(pool.submit(made, start, buffers[chunk % len(buffers)]))
            if len(ahead) > _AHEAD:
                yield next_one()
        while ahead:
            yield next_one()
    finally:  # the caller reuses the rows' memory, so no thread may still read it after an error
        for future in ahead:
            future.cancel()
        wait(ahead)


def _padded(layout: ArrayLayout, block: np.ndarray) -> np.ndarray:
    """A chunk's rows, followed by rows of zeros if it is not full."""
    if len(block) == layout.chunk_rows:
        return block
    padded = np.zeros(layout.shape(layout.chunk_rows), dtype=block.dtype)
    padded[: len(block)] = block
    return padded
