"""Blosc frames whose byte planes are entropy coded, without a search for repeats.

Owns the encoding of such frames; any Blosc reads them, and `decoding` does here. Activations hardly
ever repeat, so zstd's search for matches takes three quarters of its time and makes the result
larger: the few short matches it finds cost more than the bytes they replace. Python's interface to
zstd cannot switch the search off, so its C interface is called (`zstd`). Without zstd's symbols,
stock Blosc is used.

A frame of B blocks of values of S bytes (all integers little endian, int32 unless noted):

    header     16 bytes, see `decoding.HEADER`
    offsets    B: where each block begins, counted from the start of the frame
    blocks     B, each S streams, one per byte plane (plane 0 holds the lowest byte of every value)
    stream     its length, then so many bytes: zstd's, or the plane itself if that is not longer
"""

import threading

import numpy as np

from ....caches import compiled
from . import zstd
from .decoding import HEADER, SHUFFLED, ZSTD

_PLANE_BYTES = 2**20
"""The most bytes of a plane that are coded at once. Large: zstd makes a table per 128 KiB anyway,
and a frame of one block is decoded fastest."""

_SAMPLE = 2**14
"""Bytes at the start of a plane that are coded to see whether the rest compresses; the low bytes of
mantissas are noise and do not."""

_MIN_VALUES = 1024
"""Smaller chunks are left to stock Blosc: below 128 values a block, it does not split planes."""

_VERSIONS = (2, 1)
"""Version of the frame, and of the zstd data in it."""

_local = threading.local()


def max_encoded_bytes(count: int, size: int) -> int:
    """Size of the buffer that `compress` needs for `count` values of `size` bytes; 0 without zstd.

    It is larger than any frame: zstd needs its bound even for a plane that is then stored as it is.
    """
    if zstd.LIBRARY is None:
        return 0
    blocks = _blocks(count)
    return HEADER.size + 4 * blocks + blocks * size * (4 + zstd.LIBRARY.bound(count // blocks))


def compress(values: np.ndarray, out: np.ndarray) -> int | None:
    """Writes values as a frame to the beginning of `out`.

    Args:
        values: a contiguous array of 1, 2 or 4 bytes a value.
        out: uint8 [`max_encoded_bytes` or more].

    Returns:
        Bytes of the frame. None if stock Blosc must be used: zstd is missing, there are too few
        values, or the frame would be longer than the values.
    """
    count, size = values.size, values.itemsize
    if zstd.LIBRARY is None or count < _MIN_VALUES:
        return None
    blocks = _blocks(count)
    starts, end = [], HEADER.size + 4 * blocks  # header and offsets are written last
    planes = _planes(size, count // blocks)
    for block in values.reshape(blocks, count // blocks).view(f"u{size}"):
        starts.append(end)
        _split(block, planes)
        for plane in planes:
            end = _append_plane(plane, out, end)
    if end > values.nbytes:
        return None
    flags = ZSTD | (SHUFFLED if size > 1 else 0)
    header = HEADER.pack(*_VERSIONS, flags, size, values.nbytes, values.nbytes // blocks, end)
    out[: HEADER.size] = np.frombuffer(header, np.uint8)
    out[HEADER.size : starts[0]] = np.array(starts, "<i4").view(np.uint8)
    return end


def _planes(size: int, count: int) -> np.ndarray:
    """uint8 [size, count] that this thread reuses: page faults of new memory would add a third to
    the time of the encoding."""
    memory = getattr(_local, "planes", None)
    if memory is None or memory.size < size * count:
        memory = _local.planes = np.empty(size * count, dtype=np.uint8)
    return memory[: size * count].reshape(size, count)


@compiled(nogil=True)
def _split(values: np.ndarray, planes: np.ndarray) -> None:
    """Writes the bytes of unsigned values [n] into planes [itemsize, n], the lowest byte first."""
    for plane in range(planes.shape[0]):
        for i in range(values.shape[0]):
            planes[plane, i] = values[i] >> (8 * plane)  # numba keeps the lowest 8 bits


def _append_plane(plane: np.ndarray, out: np.ndarray, end: int) -> int:
    """Writes a stream at `end`: its length, then the plane, coded if that is shorter. Returns the
    new end."""
    assert zstd.LIBRARY is not None
    rest, length = out[end + 4 :], plane.size
    if zstd.LIBRARY.compress(plane[:_SAMPLE], rest) < 0.98 * min(_SAMPLE, plane.size):
        length = zstd.LIBRARY.compress(plane, rest)
    if length >= plane.size:
        length = plane.size
        rest[:length] = plane
    out[end : end + 4] = np.array([length], "<i4").view(np.uint8)
    return end + 4 + length


def _blocks(count: int) -> int:
    """Number of equal blocks for `count` values: the smallest that keeps a plane within
    `_PLANE_BYTES`, or 1 if no number near it divides `count`."""
    least = -(-count // _PLANE_BYTES)
    even = (n for n in range(least, 2 * least) if count % n == 0)
    return next(even, 1)
