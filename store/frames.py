"""Blosc frames whose byte planes are entropy coded and nothing else.

Owns the making of such frames; any blosc reads them. Activations hardly ever repeat, so zstd's
search for matches is three quarters of its time and makes them larger: the few short matches it
finds cost more than the bytes they replace. Python's interface to zstd cannot switch the search
off, so its C interface is called, in the library that numcodecs brings. Where that library does not
show its symbols, there are no such frames: `compress` is then blosc's own.
"""

import ctypes
import struct
import threading
from importlib import import_module
from typing import Any

import numpy as np

from ..machine import compiled

_PLANE_BYTES = 2**20
"""Bytes of a plane coded at once, at most: zstd makes a table per 128 KiB anyway, and a frame of
one block is decoded fastest."""

_SAMPLE = 2**14
"""First bytes of a plane that tell whether the rest is worth coding: mantissas are noise."""

_MIN_VALUES = 1024
"""Shorter blocks are not split into planes by every blosc (its least is 128 values)."""

_HEADER = struct.Struct("<BBBBiii")  # versions of frame and zstd, flags, typesize; three sizes
_VERSIONS = (2, 1)
_SHUFFLED, _ZSTD = 0b1, 4 << 5  # flags; bit 4, not set, would say that planes are not split

_PARAMETERS = {100: 1, 106: 128, 1002: 1}
"""zstd's level 1; its targetLength, which for this strategy is how far the search for matches skips
where it finds none; and literal compression on, which would be off at such a skip. Values from
zstd.h (the last from its experimental part)."""


_local = threading.local()


def room(count: int, size: int) -> int:
    """Bytes that making a frame of `count` values of `size` bytes may take for a while."""
    if _LIBRARY is None:
        return 0
    blocks = _blocks(count)
    return _HEADER.size + 4 * blocks + blocks * size * (4 + _LIBRARY.bound(count // blocks))


def compress(values: np.ndarray, out: np.ndarray) -> int | None:
    """Writes values (a contiguous array of 1, 2 or 4 bytes each) as a frame to the beginning of
    `out` (uint8, of at least `room` bytes) and returns its length; None where blosc's own frame
    would be smaller or has to be taken."""
    count, size = values.size, values.itemsize
    if _LIBRARY is None or count < _MIN_VALUES:
        return None
    blocks = _blocks(count)
    starts, end = [], _HEADER.size + 4 * blocks
    planes = _planes(size, count // blocks)
    for block in values.reshape(blocks, count // blocks).view(f"u{size}"):
        starts.append(end)
        _split(block, planes)
        for plane in planes:
            end = _append_plane(plane, out, end)
    if end > values.nbytes:
        return None
    flags = _ZSTD | (_SHUFFLED if size > 1 else 0)
    header = _HEADER.pack(*_VERSIONS, flags, size, values.nbytes, values.nbytes // blocks, end)
    out[: _HEADER.size] = np.frombuffer(header, np.uint8)
    out[_HEADER.size : starts[0]] = np.array(starts, "<i4").view(np.uint8)
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
    assert _LIBRARY is not None
    rest, length = out[end + 4 :], plane.size
    if _LIBRARY.compress(plane[:_SAMPLE], rest) < 0.98 * min(_SAMPLE, plane.size):
        length = _LIBRARY.compress(plane, rest)
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


class _Library:
    """zstd's C interface, with a context per thread; AttributeError where it is not to be had."""

    def __init__(self, path: str):
        size, pointer = ctypes.c_size_t, ctypes.c_void_p
        self.zstd: Any = ctypes.CDLL(path)
        for name, result, arguments in (
            ("ZSTD_createCCtx", pointer, []),
            ("ZSTD_freeCCtx", size, [pointer]),
            ("ZSTD_CCtx_setParameter", size, [pointer, ctypes.c_int, ctypes.c_int]),
            ("ZSTD_compress2", size, [pointer, pointer, size, pointer, size]),
            ("ZSTD_compressBound", size, [size]),
            ("ZSTD_isError", ctypes.c_uint, [size]),
        ):
            function = getattr(self.zstd, name)
            function.restype, function.argtypes = result, arguments
        self._local = threading.local()
        self._context()

    def bound(self, n_bytes: int) -> int:
        """Room that this many bytes may need."""
        return self.zstd.ZSTD_compressBound(n_bytes)

    def compress(self, source: np.ndarray, out: np.ndarray) -> int:
        """Compresses bytes (uint8, contiguous) into `out`; how many bytes that took."""
        arguments = out.ctypes.data, out.size, source.ctypes.data, source.size
        return self.checked(self.zstd.ZSTD_compress2(self._context().pointer, *arguments))

    def checked(self, result: int) -> int:
        """A result that is no error; OSError if it is one."""
        if self.zstd.ZSTD_isError(result):
            raise OSError(f"zstd refused with its error code {2**64 - result}")
        return result

    def _context(self) -> "_Context":
        if not hasattr(self._local, "context"):
            self._local.context = _Context(self)
        return self._local.context


class _Context:
    """A thread's zstd context with the parameters set; freed with the thread."""

    def __init__(self, library: _Library):
        self._library = library
        self.pointer = library.zstd.ZSTD_createCCtx()
        for parameter, value in _PARAMETERS.items():
            library.checked(library.zstd.ZSTD_CCtx_setParameter(self.pointer, parameter, value))

    def __del__(self) -> None:
        self._library.zstd.ZSTD_freeCCtx(self.pointer)


def _library() -> _Library | None:
    """The zstd inside numcodecs, if it shows its symbols and knows the parameters."""
    try:
        path = import_module("numcodecs.zstd").__file__
        return _Library(str(path))
    except (AttributeError, OSError):
        return None


_LIBRARY = _library()
