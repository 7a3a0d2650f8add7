"""Blosc frames whose byte planes are entropy coded and nothing else.

Owns the making of such frames; any blosc reads them. Activations hardly ever repeat, so zstd's
search for matches is three quarters of its time and makes them larger: the few short matches it
finds cost more than the bytes they replace. Python's interface to zstd cannot switch the search
off, so its C interface is called (`zstd`); where that is not to be had, there are no such frames.
`decoding` reads them, and those of others.
"""

import threading

import numpy as np

from ....caches import compiled
from . import zstd
from .decoding import HEADER, SHUFFLED, ZSTD

_PLANE_BYTES = 2**20
"""Bytes of a plane coded at once, at most: zstd makes a table per 128 KiB anyway, and a frame of
one block is decoded fastest."""

_SAMPLE = 2**14
"""First bytes of a plane that tell whether the rest is worth coding: mantissas are noise."""

_MIN_VALUES = 1024
"""Shorter blocks are not split into planes by every blosc (its least is 128 values)."""

_VERSIONS = (2, 1)
"""Of the frame and of zstd's bytes in it."""

_local = threading.local()


def max_encoded_bytes(count: int, size: int) -> int:
    """Bytes that making a frame of `count` values of `size` bytes may take for a while."""
    if zstd.LIBRARY is None:
        return 0
    blocks = _blocks(count)
    return HEADER.size + 4 * blocks + blocks * size * (4 + zstd.LIBRARY.bound(count // blocks))


def compress(values: np.ndarray, out: np.ndarray) -> int | None:
    """Writes values (a contiguous array of 1, 2 or 4 bytes each) as a frame to the beginning of
    `out` (uint8, `max_encoded_bytes` or more) and returns its length; None where blosc's own frame
    would be smaller or has to be taken."""
    count, size = values.size, values.itemsize
    if zstd.LIBRARY is None or count < _MIN_VALUES:
        return None
    blocks = _blocks(count)
    starts, end = [], HEADER.size + 4 * blocks
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
    """Memory of this thread [size, count], the same at every call: fresh pages cost a third of the
    encoding."""
    memory = getattr(_local, "planes", None)
    if memory is None or memory.size < size * count:
        memory = _local.planes = np.empty(size * count, dtype=np.uint8)
    return memory[: size * count].reshape(size, count)


@compiled(nogil=True)
def _split(values: np.ndarray, planes: np.ndarray) -> None:
    """The bytes of values [n] to planes [itemsize, n], the lowest first."""
    for plane in range(planes.shape[0]):
        for i in range(values.shape[0]):
            planes[plane, i] = values[i] >> (8 * plane)


def _append_plane(plane: np.ndarray, out: np.ndarray, end: int) -> int:
    """Writes a plane's length and its bytes, coded if that is shorter, at `end`; the new end."""
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
    """Equal blocks to cut `count` values into, none larger than wanted if that is possible."""
    least = -(-count // _PLANE_BYTES)
    even = (n for n in range(least, 2 * least) if count % n == 0)
    return next(even, 1)
