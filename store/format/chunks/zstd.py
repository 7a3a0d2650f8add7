"""zstd's C interface, in the library that is part of numcodecs.

Owns the calls, and one context for compressing and one for decompressing per thread. Every call
gives the sizes of both buffers, which zstd never exceeds. `LIBRARY` is None if numcodecs hides the
library's symbols.
"""

import ctypes
import threading
from importlib import import_module
from typing import Any

import numpy as np

_PARAMETERS = {100: 1, 106: 128, 1002: 1}
"""Parameter of zstd.h -> value:

- 100, compressionLevel: 1.
- 106, targetLength: 128. At this level it is how many bytes the search for matches skips when it
  finds none, so a large value nearly switches the search off.
- 1002, literalCompressionMode (experimental): 1, on. This is the entropy coding; by default a
  targetLength above 0 switches it off at this level.
"""


class Library:
    """The functions of zstd that are used here.

    Raises:
        OSError: there is no library at the path.
        AttributeError: the library does not have one of the functions.
    """

    def __init__(self, path: str):
        size, pointer = ctypes.c_size_t, ctypes.c_void_p
        self.zstd: Any = ctypes.CDLL(path)
        for name, result, arguments in (
            ("ZSTD_createCCtx", pointer, []),
            ("ZSTD_freeCCtx", size, [pointer]),
            ("ZSTD_createDCtx", pointer, []),
            ("ZSTD_freeDCtx", size, [pointer]),
            ("ZSTD_CCtx_setParameter", size, [pointer, ctypes.c_int, ctypes.c_int]),
            ("ZSTD_compress2", size, [pointer, pointer, size, pointer, size]),
            ("ZSTD_decompressDCtx", size, [pointer, pointer, size, pointer, size]),
            ("ZSTD_compressBound", size, [size]),
            ("ZSTD_isError", ctypes.c_uint, [size]),
            ("ZSTD_getErrorName", ctypes.c_char_p, [size]),
        ):
            function = getattr(self.zstd, name)
            function.restype, function.argtypes = result, arguments
        self._local = threading.local()
        self._contexts()

    def bound(self, n_bytes: int) -> int:
        """The most bytes that `compress` may write for `n_bytes` bytes."""
        return self.zstd.ZSTD_compressBound(n_bytes)

    def compress(self, source: np.ndarray, out: np.ndarray) -> int:
        """Compresses bytes (uint8, contiguous) into `out`; returns how many it wrote."""
        return self._called(self.zstd.ZSTD_compress2, self._contexts().compressing, source, out)

    def decompress(self, source: np.ndarray, out: np.ndarray) -> int:
        """Decompresses bytes (uint8, contiguous) into `out`; returns how many it wrote.

        Raises:
            ValueError: the bytes are no zstd frame, or `out` is too small.
        """
        try:
            context = self._contexts().decompressing
            return self._called(self.zstd.ZSTD_decompressDCtx, context, source, out)
        except OSError as error:
            raise ValueError(str(error)) from error

    def _called(self, function: Any, context: int, source: np.ndarray, out: np.ndarray) -> int:
        return self.checked(
            function(context, out.ctypes.data, out.size, source.ctypes.data, source.size)
        )

    def checked(self, result: int) -> int:
        """The result of a call; OSError if it is an error code."""
        if self.zstd.ZSTD_isError(result):
            raise OSError(f"zstd refused: {self.zstd.ZSTD_getErrorName(result).decode()}")
        return result

    def _contexts(self) -> "_Contexts":
        if not hasattr(self._local, "contexts"):
            self._local.contexts = _Contexts(self)
        return self._local.contexts


class _Contexts:
    """A thread's zstd contexts, with `_PARAMETERS` set for compressing; freed with the thread."""

    def __init__(self, library: Library):
        self._zstd = library.zstd
        self.compressing = self._zstd.ZSTD_createCCtx()
        self.decompressing = self._zstd.ZSTD_createDCtx()
        for parameter, value in _PARAMETERS.items():
            library.checked(self._zstd.ZSTD_CCtx_setParameter(self.compressing, parameter, value))

    def __del__(self) -> None:
        self._zstd.ZSTD_freeCCtx(self.compressing)
        self._zstd.ZSTD_freeDCtx(self.decompressing)


def found() -> Library | None:
    """The zstd inside numcodecs; None if its symbols are hidden or it lacks a parameter."""
    try:
        path = import_module("numcodecs.zstd").__file__
        return Library(str(path))
    except (AttributeError, OSError):
        return None


LIBRARY = found()
