"""zstd's C interface, in the library that numcodecs brings.

Owns the calls and a context of each kind per thread. Every call says how long both buffers are, and
zstd keeps to that. `LIBRARY` is None where numcodecs does not show the library's symbols.
"""

import ctypes
import threading
from importlib import import_module
from typing import Any

import numpy as np

_PARAMETERS = {100: 1, 106: 128, 1002: 1}
"""zstd's level 1; its targetLength, which for this strategy is how far the search for matches skips
where it finds none; and literal compression on, which would be off at such a skip. Values from
zstd.h (the last from its experimental part)."""


class Library:
    """The functions of zstd that are used here; AttributeError where they are not to be had."""

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
        """Room that this many bytes may need."""
        return self.zstd.ZSTD_compressBound(n_bytes)

    def compress(self, source: np.ndarray, out: np.ndarray) -> int:
        """Compresses bytes (uint8, contiguous) into `out`; how many bytes that took."""
        return self._called(self.zstd.ZSTD_compress2, self._contexts().compressing, source, out)

    def decompress(self, source: np.ndarray, out: np.ndarray) -> int:
        """Decompresses bytes (uint8, contiguous) into `out`; how many bytes there were.

        Raises:
            ValueError: they are none of zstd's, or more than fit.
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
        """A result that is no error; OSError if it is one."""
        if self.zstd.ZSTD_isError(result):
            raise OSError(f"zstd refused: {self.zstd.ZSTD_getErrorName(result).decode()}")
        return result

    def _contexts(self) -> "_Contexts":
        if not hasattr(self._local, "contexts"):
            self._local.contexts = _Contexts(self)
        return self._local.contexts


class _Contexts:
    """A thread's zstd contexts, the compressing one with the parameters set; freed with the
    thread."""

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
    """The zstd inside numcodecs, if it shows its symbols and knows the parameters."""
    try:
        path = import_module("numcodecs.zstd").__file__
        return Library(str(path))
    except (AttributeError, OSError):
        return None


LIBRARY = found()
