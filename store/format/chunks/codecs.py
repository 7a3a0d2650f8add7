"""Codecs: how a chunk of rows becomes bytes, and back.

Owns the presets and the encoding of one chunk as `bytes (little endian) | blosc | crc32c`, which is
what plain zarr, Dask and TensorStore decode. Blosc frames describe themselves, so level, shuffle
and blocks of a preset may be tuned without breaking older stores; data type and compressor are the
array's.
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
    """Whether frames come from `blosc_frames.compress` where that can make them."""
    least_bits: float = 0.0
    """Bits a value of activations takes at least, for the question whether a disk has space."""

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

    @staticmethod
    def longest(chunk_bytes: int) -> int:
        """Bytes of a chunk of this size when encoded, at most: as it is, between header and
        checksum."""
        return HEADER.size + chunk_bytes + CRC_BYTES

    def max_encoded_bytes(self, chunk_bytes: int) -> int:
        """Bytes that encoding a chunk of this size may take."""
        own = (
            frames.max_encoded_bytes(chunk_bytes // self.itemsize, self.itemsize)
            if self.entropy_only
            else 0
        )
        return max(own + CRC_BYTES, self.longest(chunk_bytes))

    def encode(self, chunk: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """A contiguous chunk as a blosc frame with its crc32c (4 bytes, little endian) behind.

        Args:
            out: uint8, `max_encoded_bytes` or more, to be used again for one chunk after another:
                fresh pages cost a tenth of the encoding.

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
            ValueError: the checksum is wrong, or what is under it is no chunk of this size and
                codec; what `out` holds is then undefined.
        """
        frame, stored = encoded[:-CRC_BYTES], encoded[-CRC_BYTES:].tobytes()
        found = google_crc32c.value(frame)  # takes numpy's buffers but no memoryview
        if found != int.from_bytes(stored, "little"):
            raise ValueError(f"its crc32c is {found:08x}, stored is {stored[::-1].hex()}")
        decoding.decode(frame, out, self.cname)

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
    "exact": Codec("bfloat16", "zstd", 1, blocksize=2**19, entropy_only=True, least_bits=10.0),
    "fast": Codec("bfloat16", "lz4", 0, shuffle=blosc.NOSHUFFLE, least_bits=16.0),
    "float32": Codec("float32", "zstd", 1, blocksize=2**20, entropy_only=True, least_bits=10.0),
    "int8": Codec("int8", "zstd", 1, blosc.NOSHUFFLE, 2**18, entropy_only=True, least_bits=5.0),
}
"""Codecs a store can be written with. docs/store.md measures 11.0, 16.0, 11.0 (rows of a bfloat16
model) and 7.5 bits a value."""

LABELS = Codec("uint32", "zstd", 1)
"""The codec of token ids, sequences and positions."""
