"""Decoding Blosc frames: every field is checked before a byte is decoded.

Owns the reading of frames of any writer; `blosc_frames` shows their layout. Blosc trusts a frame:
it reads as far as the header says, even beyond the end of the buffer. So each field of the header,
each block's offset and each stream's length must first agree with the bytes that are there and with
the array's chunk (docs/format.md has the rules). Frames of zstd are then decoded here, within
bounds. Only bit planes and lz4 are passed to Blosc.
"""

import struct
import threading
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from ....caches import compiled
from . import zstd

blosc: Any = import_module("numcodecs.blosc")  # a C extension without stubs
# Blosc's own threads write blocks in the order in which they finish, so the bytes of a store would
# depend on timing; and its global context is not safe with our worker threads. zarr switches the
# threads off on import for the same reason.
blosc.use_threads = False

HEADER = struct.Struct("<BBBBiii")
"""The 16 bytes before everything else: version of the frame (uint8), version of the compressor's
data (uint8), flags (uint8), bytes per value (uint8), bytes when decoded (int32), bytes of a decoded
block (int32), bytes of the whole frame (int32)."""

SHUFFLED, STORED, BIT_SHUFFLED, NOT_SPLIT, ZSTD = 0b1, 0b10, 0b100, 0b10000, 4 << 5
"""Flags: bytes are split into planes; the content follows the header as it is; bits are split into
planes; a block is one stream instead of one per plane. The upper three bits are the compressor."""

_COMPRESSORS = {"lz4": 1 << 5, "zstd": ZSTD}
_NOT_SPLIT_BELOW, _NOT_SPLIT_ABOVE = 128, 16
"""A block of fewer values, or of more bytes a value, is one stream whatever its flags say."""

_local = threading.local()


@dataclass(frozen=True)
class _Header:
    """The fields of a checked header that decoding needs."""

    flags: int
    itemsize: int
    n_bytes: int
    block_bytes: int

    def block(self, number: int) -> int:
        """Bytes of a block when decoded; the last one may be short."""
        return min(self.block_bytes, self.n_bytes - number * self.block_bytes)

    def streams(self, number: int) -> int:
        """Number of streams of a block: equal parts that are compressed one by one."""
        is_split = (
            not self.flags & NOT_SPLIT
            and self.itemsize <= _NOT_SPLIT_ABOVE
            and self.block_bytes // self.itemsize >= _NOT_SPLIT_BELOW
            and self.block(number) == self.block_bytes
        )
        return self.itemsize if is_split else 1


def decode(frame: np.ndarray, out: np.ndarray, compressor: str) -> None:
    """Decodes a frame (uint8 [n]) into `out`, a contiguous array of exactly its content's size.

    Args:
        compressor: of the array: zstd or lz4.

    Raises:
        ValueError: the bytes are no frame, or a frame of other values. The content of `out` is then
            undefined.
    """
    header = _checked_header(frame, out, compressor)
    content = out.reshape(-1).view(np.uint8)
    if header.flags & STORED:
        content[:] = frame[HEADER.size :]
        return
    blocks = _checked_streams(frame, header)
    if compressor == "zstd" and not header.flags & BIT_SHUFFLED and zstd.LIBRARY is not None:
        for number, streams in enumerate(blocks):
            first = number * header.block_bytes
            _decode_block(streams, content[first : first + header.block(number)], header)
        return
    try:
        blosc.decompress(frame, content)
    except RuntimeError as error:
        raise ValueError(f"blosc refused its frame: {error}") from error


def _checked_header(frame: np.ndarray, out: np.ndarray, compressor: str) -> _Header:
    """The header; refuses one that Blosc would not write for values like those of `out`."""
    if len(frame) < HEADER.size:
        raise ValueError(f"its frame must have a header of {HEADER.size} bytes, got {len(frame)}")
    version, inner, flags, itemsize, n_bytes, block_bytes, length = HEADER.unpack(
        frame[: HEADER.size].tobytes()
    )
    if n_bytes != out.nbytes:
        raise ValueError(f"it holds {n_bytes} bytes, expected {out.nbytes}")
    for name, found, expected in (
        ("version", (version, inner), (2, 1)),
        ("compressor", flags >> 5 << 5, _COMPRESSORS[compressor]),
        ("bytes per value", itemsize, out.itemsize),
        ("length", length, len(frame)),
    ):
        if found != expected:
            raise ValueError(f"its frame's {name} must be {expected}, got {found}")
    if flags & 0b1000 or (flags & SHUFFLED and flags & BIT_SHUFFLED):
        raise ValueError(f"its frame's flags must be known ones, got {flags:#010b}")
    if not 0 < block_bytes <= n_bytes or block_bytes % itemsize:
        raise ValueError(
            f"its frame's block must be 1 … {n_bytes} bytes of whole values, got {block_bytes}"
        )
    if flags & STORED and length != HEADER.size + n_bytes:
        raise ValueError(f"its frame stores {length - HEADER.size} bytes of {n_bytes}")
    return _Header(flags, itemsize, n_bytes, block_bytes)


def _checked_streams(frame: np.ndarray, header: _Header) -> list[list[np.ndarray]]:
    """The compressed streams of every block.

    Refuses gaps and overlaps: blocks, in any order, and their streams must follow one another from
    the end of the offsets to the end of the frame.
    """
    n_blocks = -(-header.n_bytes // header.block_bytes)
    end = HEADER.size + 4 * n_blocks
    if end > len(frame):
        raise ValueError(f"its frame of {len(frame)} bytes cannot hold {n_blocks} blocks")
    starts = frame[HEADER.size : end].view("<i4")  # the blocks' offsets in the frame
    found: list[list[np.ndarray]] = [[] for _ in range(n_blocks)]
    for number in np.argsort(starts, kind="stable").tolist():
        if starts[number] != end:
            raise ValueError(f"its block {number} must begin at {end}, got {starts[number]}")
        count = header.streams(number)
        largest = header.block(number) // count
        for _ in range(count):
            length = int.from_bytes(frame[end : end + 4].tobytes(), "little", signed=True)
            end += 4
            if not 0 < length <= min(largest, len(frame) - end):
                raise ValueError(
                    f"a stream of its block {number} must be 1 … {largest} bytes within the frame,"
                    f" got {length}"
                )
            found[number].append(frame[end : end + length])
            end += length
    if end != len(frame):
        raise ValueError(f"its blocks must end with the frame at {len(frame)}, got {end}")
    return found


def _decode_block(streams: list[np.ndarray], out: np.ndarray, header: _Header) -> None:
    """Decodes a block's zstd streams into `out` (uint8), which they must fill exactly."""
    assert zstd.LIBRARY is not None
    is_shuffled = header.flags & SHUFFLED and header.itemsize > 1
    planes = _scratch(out.size) if is_shuffled else out
    for stream, part in zip(streams, planes.reshape(len(streams), -1), strict=True):
        if stream.size == part.size:  # as long as when decoded: stored as it is
            part[:] = stream
        elif (found := zstd.LIBRARY.decompress(stream, part)) != part.size:
            raise ValueError(f"a stream of its frame holds {found} bytes, expected {part.size}")
    if is_shuffled:
        _join(planes.reshape(header.itemsize, -1), out.view(f"<u{header.itemsize}"))


def _scratch(n_bytes: int) -> np.ndarray:
    """uint8 [n_bytes] that this thread reuses."""
    memory = getattr(_local, "buffer", None)
    if memory is None or memory.size < n_bytes:
        memory = _local.buffer = np.empty(n_bytes, dtype=np.uint8)
    return memory[:n_bytes]


@compiled(nogil=True)
def _join(planes: np.ndarray, values: np.ndarray) -> None:
    """Puts unsigned values [n] of 2 or 4 bytes together from planes [itemsize, n], the lowest byte
    first: value = Σ planes[k] · 256^k."""
    if planes.shape[0] == 2:
        for i in range(values.shape[0]):
            values[i] = planes[0, i] | planes[1, i] << 8
    else:
        for i in range(values.shape[0]):
            low = planes[0, i] | planes[1, i] << 8
            values[i] = low | planes[2, i] << 16 | planes[3, i] << 24
