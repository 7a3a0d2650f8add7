"""Files on their way to the disk while they are being written.

Owns asking the kernel to begin (Linux only). Otherwise it waits until memory fills or somebody
wants the file durable, and then that somebody waits: a store's writes are a sixth faster this way.
"""

import ctypes
from collections.abc import Callable
from typing import BinaryIO

_SPAN = 2**22
"""Bytes after which the kernel is asked again."""

_BEGIN = 2
"""SYNC_FILE_RANGE_WRITE of <fcntl.h>: begins, waits for nothing, promises nothing."""


class Writeback:
    """Sees to it that what is written to a new file goes on to the disk."""

    def __init__(self, file: BinaryIO):
        self._file, self._asked, self._written = file, 0, 0

    def wrote(self, n_bytes: int) -> None:
        """Counts bytes written at the end of the file."""
        self._written += n_bytes
        span = self._written - self._asked
        if _SYNC_FILE_RANGE is not None and span >= _SPAN:
            self._file.flush()
            _SYNC_FILE_RANGE(self._file.fileno(), self._asked, span, _BEGIN)
            self._asked = self._written


def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    """Linux's function of that name; None elsewhere. What it returns is of no interest: the fsync
    that follows names every error."""
    try:
        function = ctypes.CDLL(None).sync_file_range
    except (AttributeError, OSError, TypeError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return function


_SYNC_FILE_RANGE = _sync_file_range()
