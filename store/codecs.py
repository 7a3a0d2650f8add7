"""Codecs: how a chunk of rows becomes bytes, and back.

Owns the presets and the encoding of one chunk as `bytes (little endian) | blosc | crc32c`, which is
what plain zarr, Dask and TensorStore decode. Blosc frames describe themselves, so a reader needs no
preset: presets may be tuned without breaking older stores.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import google_crc32c
import numpy as np

from . import frames

blosc: Any = import_module("numcodecs.blosc")  # a C extension without stubs
# Blosc's own threads write blocks in the order they finish, which would make the bytes of a store
# depend on timing, and its global context is not safe under our worker threads. zarr switches it
# off on import for the same reason.
blosc.use_threads = False

CRC_BYTES = 4


@dataclass(frozen=True)
class Codec:
    """A preset: the dtype of the array and the blosc settings of its chunks."""

    dtype: str
    """Zarr name of the array's data type."""
    cname: str
    clevel: int
    shuffle: int = blosc.SHUFFLE
    blocksize: int = 0
    """Bytes per blosc block; 0 lets blosc choose."""
    entropy_only: bool = False
    """Whether frames come from `frames.compress` where that can make them."""

    @property
    def collected(self) -> str:
        """Data type in which rows are collected until their bucket is sealed."""
        return "bfloat16" if self.dtype == "int8" else self.dtype

    @property
    def itemsize(self) -> int:
        """Bytes per value before compression."""
        return STORAGE[self.dtype].itemsize

    def chain(self) -> list[dict[str, Any]]:
        """The chunk's codecs as they stand in `zarr.json`."""
        endian = {"configuration": {"endian": "little"}} if self.itemsize > 1 else {}
        shuffles = {0: "noshuffle", 1: "shuffle", 2: "bitshuffle"}
        settings = {
            "cname": self.cname,
            "clevel": self.clevel,
            "shuffle": shuffles[self.shuffle],
            "typesize": self.itemsize,
            "blocksize": self.blocksize,
        }
        return [
            {"name": "bytes", **endian},
            {"name": "blosc", "configuration": settings},
            {"name": "crc32c"},
        ]

    def room(self, chunk_bytes: int) -> int:
        """Bytes that encoding a chunk of this size may take."""
        own = frames.room(chunk_bytes // self.itemsize, self.itemsize) if self.entropy_only else 0
        return max(own, chunk_bytes + blosc.MAX_OVERHEAD) + CRC_BYTES

    def encode(self, chunk: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """A contiguous chunk as a blosc frame with its crc32c (4 bytes, little endian) behind.

        Args:
            out: uint8, of at least `room` bytes, to be used again for one chunk after another:
                fresh pages cost a tenth of the encoding.

        Returns:
            uint8 [n], the beginning of `out`.
        """
        if out is None:
            out = np.empty(self.room(chunk.nbytes), dtype=np.uint8)
        end = frames.compress(chunk, out) if self.entropy_only else None
        if end is None:
            frame = self._blosc(chunk)
            end = len(frame)
            out[:end] = np.frombuffer(frame, np.uint8)
        crc = google_crc32c.value(out[:end])
        out[end : end + CRC_BYTES] = np.frombuffer(crc.to_bytes(CRC_BYTES, "little"), np.uint8)
        return out[: end + CRC_BYTES]

    def _blosc(self, chunk: np.ndarray) -> bytes:
        """The frame as blosc makes it."""
        return blosc.compress(
            chunk.reshape(-1).view(np.uint8),
            self.cname.encode(),
            self.clevel,
            self.shuffle,
            self.blocksize,
            typesize=self.itemsize,
        )


STORAGE = {
    "bfloat16": np.dtype("<u2"),
    "float32": np.dtype("<f4"),
    "int8": np.dtype("i1"),
    "uint32": np.dtype("<u4"),
}
"""numpy dtype in which an array's values are handled here; bfloat16 goes as its bits."""

# Blosc's own choice for zstd 1 is 32 KiB blocks: 12.8 bits a value on normal rows with log-normal
# channel scales (entropy 10.9). zstd builds one Huffman table per 128 KiB, so with 256 KiB per byte
# plane the exponents get tables of their own: 11.1 to 11.4 bits, and decoding is 2.5 times as fast.
# lz4 finds matches in bit planes only, and turning those back costs as much as entropy coding does,
# so what is to be fast is stored as it is. docs/store.md has the figures.
PRESETS = {
    "exact": Codec("bfloat16", "zstd", 1, blocksize=2**19, entropy_only=True),
    "fast": Codec("bfloat16", "lz4", 0, shuffle=blosc.NOSHUFFLE),
    "float32": Codec("float32", "zstd", 1, blocksize=2**20, entropy_only=True),
    "int8": Codec("int8", "zstd", 1, shuffle=blosc.NOSHUFFLE, blocksize=2**18, entropy_only=True),
}
"""Codecs a store can be written with."""

LABELS = Codec("uint32", "zstd", 1)
"""The codec of token ids, sequences and positions."""


def decode(encoded: np.ndarray, out: np.ndarray) -> None:
    """Decodes a chunk (uint8 [n]) into `out`, a contiguous array of exactly its size.

    Raises:
        ValueError: the checksum or the size is wrong; `out` is then untouched.
    """
    frame, stored = encoded[:-CRC_BYTES], int.from_bytes(encoded[-CRC_BYTES:].tobytes(), "little")
    found = google_crc32c.value(frame)  # takes numpy's buffers but no memoryview
    if found != stored:
        raise ValueError(f"its crc32c is {found:08x}, stored is {stored:08x}")
    n_bytes = int.from_bytes(frame[4:8].tobytes(), "little")  # blosc header: uncompressed size
    if n_bytes != out.nbytes:
        raise ValueError(f"it holds {n_bytes} bytes, expected {out.nbytes}")
    blosc.decompress(frame, out.reshape(-1).view(np.uint8))
