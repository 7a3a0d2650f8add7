"""Reading a sharded array, chunk by chunk; errors name what is damaged.

Owns the read buffers and the cache of shard indices. `codecs` and `shard_index` decode the bytes.
"""

import threading
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from ..format.arrays import ArrayLayout, DamagedStoreError
from ..format.chunks.shard_index import decode_index
from ..place.location import Location


class ArrayReader:
    """Reads chunks of one array; safe to use from several threads."""

    def __init__(self, location: Location, layout: ArrayLayout, shard_bytes: Callable[[int], int]):
        """
        Args:
            location: where the store is.
            layout: of the array.
            shard_bytes: shard -> committed bytes of its object, so that no read has to look it up.
        """
        self.layout = layout
        self._location = location
        self._shard_bytes = shard_bytes
        self._index = lru_cache(maxsize=256)(self._read_index)
        self._local = threading.local()

    def read_chunk(self, chunk: int, out: np.ndarray) -> None:
        """Decodes a whole chunk, numbered over the whole array, into `out` [chunk_rows, width].

        Raises:
            DamagedStoreError: the bytes are missing or damaged.
        """
        shard, inner = divmod(chunk, self.layout.shard_chunks)
        index = self.index(shard)
        if inner >= len(index):
            raise self._damage(shard, f"chunk {inner} is not in its index")
        offset, length = index[inner].tolist()
        self.decode(chunk, self._read(shard, offset, length, f"chunk {inner}"), out)

    def index(self, shard: int) -> np.ndarray:
        """Offset and length of the chunks of a shard, int64 [n, 2], checked.

        Raises:
            DamagedStoreError: the index is missing or damaged.
        """
        return self._index(shard)

    def decode(self, chunk: int, encoded: np.ndarray, out: np.ndarray) -> None:
        """Decodes a chunk's bytes (uint8) into `out` [chunk_rows, width].

        Raises:
            DamagedStoreError: the bytes are not such a chunk.
        """
        shard, inner = divmod(chunk, self.layout.shard_chunks)
        try:
            self.layout.codec.decode(encoded, out)
        except ValueError as error:
            raise self._damage(shard, f"chunk {inner} is damaged: {error}") from error

    def read_rows(self, start: int, stop: int) -> np.ndarray:
        """Rows [start, stop) of the array [stop - start, width], in the storage dtype."""
        layout = self.layout
        out, buffer = layout.empty(stop - start), layout.empty(layout.chunk_rows)
        for chunk in range(start // layout.chunk_rows, -(-stop // layout.chunk_rows)):
            first = chunk * layout.chunk_rows
            self.read_chunk(chunk, buffer)
            low, high = max(start, first), min(stop, first + layout.chunk_rows)
            out[low - start : high - start] = buffer[low - first : high - first]
        return out

    def _read_index(self, shard: int) -> np.ndarray:
        """Reads and checks a shard's index; see `index`."""
        layout, end = self.layout, self._shard_bytes(shard)
        if not layout.index_bytes <= end <= layout.max_shard_bytes:
            raise self._damage(shard, f"its committed size of {end} bytes is impossible")
        start = end - layout.index_bytes
        tail = self._read(shard, start, layout.index_bytes, "the index").tobytes()
        try:
            return decode_index(tail, end, layout.max_chunk_bytes)
        except ValueError as error:
            raise self._damage(shard, str(error)) from error

    def _read(self, shard: int, start: int, n_bytes: int, what: str) -> np.ndarray:
        """Exactly `n_bytes` bytes of a shard, in a buffer of this thread that its next read
        overwrites.

        Page faults of new buffers would take as long as decompressing the bytes.
        """
        buffer = getattr(self._local, "buffer", None)
        if buffer is None or len(buffer) < n_bytes:
            buffer = self._local.buffer = np.empty(n_bytes, dtype=np.uint8)
        try:
            found = self._location.read_into(self.layout.shard_key(shard), start, buffer[:n_bytes])
        except FileNotFoundError as error:
            raise self._damage(shard, "the object is missing") from error
        if found != n_bytes:
            raise self._damage(shard, f"{what} is cut off ({found} of {n_bytes} bytes)")
        return buffer[:n_bytes]

    def _damage(self, shard: int, what: str) -> DamagedStoreError:
        name = self.layout.path.rpartition("/")[2]
        key = f"{self._location.url}/{self.layout.shard_key(shard)}"
        return DamagedStoreError(f"{name}: shard {shard} ({key}): {what}")
