"""Codecs: how a chunk of rows becomes bytes, and back.

Owns the presets and the encoding of one chunk as `bytes (little endian) | blosc | crc32c`, which
plain zarr, Dask and TensorStore decode:

    chunk      Blosc frame, then its crc32c (uint32, little endian)

A Blosc frame describes itself. So a preset's level, shuffle and block size may change without
breaking older stores; its data type and compressor may not.
"""

from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy as np

from . import blosc_frames as frames
from . import decoding
from .decoding import HEADER, blosc

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
    """Whether frames are made by `blosc_frames.compress`, if it can."""
    least_bits: float = 0.0
    """The fewest bits that a value of activations takes, to see whether a disk has enough space."""

    @property
    def collected(self) -> str:
        """Data type in which rows are held until their bucket is sealed."""
        return "bfloat16" if self.dtype == "int8" else self.dtype

    @property
    def itemsize(self) -> int:
        """Bytes per value before compression."""
        return STORAGE[self.dtype].itemsize

    def chain(self) -> list[dict[str, Any]]:
        """The chunk's codecs as written in `zarr.json`."""
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

    @staticmethod
    def longest(chunk_bytes: int) -> int:
        """The most bytes that an encoded chunk can have: header, chunk as it is, checksum."""
        return HEADER.size + chunk_bytes + CRC_BYTES

    def max_encoded_bytes(self, chunk_bytes: int) -> int:
        """Size of the buffer that `encode` needs for a chunk of this size."""
        own = (
            frames.max_encoded_bytes(chunk_bytes // self.itemsize, self.itemsize)
            if self.entropy_only
            else 0
        )
        return max(own + CRC_BYTES, self.longest(chunk_bytes))

    def encode(self, chunk: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """A contiguous chunk as a Blosc frame followed by its crc32c (4 bytes, little endian).

        Args:
            out: uint8 [`max_encoded_bytes` or more]. Pass the same one for chunk after chunk: page
                faults of new memory would add a tenth to the time.

        Returns:
            uint8 [n], the beginning of `out`.
        """
        if out is None:
            out = np.empty(self.max_encoded_bytes(chunk.nbytes), dtype=np.uint8)
        end = frames.compress(chunk, out) if self.entropy_only else None
        if end is None:
            frame = self._blosc(chunk)
            end = len(frame)
            out[:end] = np.frombuffer(frame, np.uint8)
        crc = google_crc32c.value(out[:end])
        out[end : end + CRC_BYTES] = np.frombuffer(crc.to_bytes(CRC_BYTES, "little"), np.uint8)
        return out[: end + CRC_BYTES]

    def decode(self, encoded: np.ndarray, out: np.ndarray) -> None:
        """Decodes a chunk (uint8 [n]) into `out`, a contiguous array of exactly its size.

        Raises:
            ValueError: the checksum is wrong, or the frame is not a chunk of this size and codec.
                The content of `out` is then undefined.
        """
        frame, stored = encoded[:-CRC_BYTES], encoded[-CRC_BYTES:].tobytes()
        found = google_crc32c.value(frame)  # takes a numpy array, but no memoryview
        if found != int.from_bytes(stored, "little"):
            raise ValueError(f"its crc32c is {found:08x}, stored is {stored[::-1].hex()}")
        decoding.decode(frame, out, self.cname)

    def _blosc(self, chunk: np.ndarray) -> bytes:
        """The frame that stock Blosc makes."""
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
"""Zarr data type -> numpy dtype in which this package handles the values; bfloat16 as its bits."""

# Blosc's default for zstd 1 is 32 KiB blocks: 12.8 bits a value on normal rows with log-normal
# channel scales (entropy 10.9). zstd builds one Huffman table per 128 KiB, so with 256 KiB per byte
# plane the exponents get tables of their own: 11.1 to 11.4 bits, and decoding is 2.5 times as fast.
# lz4 finds matches only in bit planes, and undoing bit planes costs as much as entropy coding. So
# the codec `fast` stores the bytes as they are. docs/store.md has the figures.
PRESETS = {
    "exact": Codec("bfloat16", "zstd", 1, blocksize=2**19, entropy_only=True, least_bits=10.0),
    "fast": Codec("bfloat16", "lz4", 0, shuffle=blosc.NOSHUFFLE, least_bits=16.0),
    "float32": Codec("float32", "zstd", 1, blocksize=2**20, entropy_only=True, least_bits=10.0),
    "int8": Codec("int8", "zstd", 1, blosc.NOSHUFFLE, 2**18, entropy_only=True, least_bits=5.0),
}
"""Codecs with which a store can be written. docs/store.md measures 11.0, 16.0, 11.0 (rows of a
bfloat16 model) and 7.5 bits a value, in this order."""

LABELS = Codec("uint32", "zstd", 1)
"""The codec of token ids, sequences and positions."""
