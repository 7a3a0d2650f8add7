"""Files while they are being written: `.NAME.<random>.partial`, locked, renamed when all is there.

Owns their locks, by which others know that their writer lives, and their way to the disk. The
kernel is asked to begin writing early (Linux only). Otherwise it waits until memory fills or
somebody wants the file durable, and then that somebody waits: a store's writes are a sixth faster
this way.
"""

import ctypes
import errno
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
"""What file systems without locks answer."""

_ABANDONED_S = 3600
"""There, an unfinished file of this age is of a killed process."""

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


def target_of(partial: Path) -> str:
    """Name of the file that an unfinished one was to become."""
    return partial.name[1:].rsplit(".", 2)[0]


@contextmanager
def locked_partial(path: Path) -> Iterator[BinaryIO]:
    """A new locked file to be renamed to `path`; removed again if the block fails."""
    while True:
        partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}.partial")
        with partial.open("xb") as file:
            if not _lock(file.fileno()) or not partial.exists():
                continue  # a sweep came between the two lines above; it removes the file
            try:
                yield file
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
            return


def link(partial: Path, path: Path) -> bool:
    """Gives a written file its name, unless another has it; whether it did. `partial` is gone."""
    try:
        path.hardlink_to(partial)
    except FileExistsError:
        partial.unlink()
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EMLINK, *NO_LOCKS):
            raise
        if path.exists():
            partial.unlink()
            return False
        partial.replace(path)
        return True
    partial.unlink()
    return True


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Says which file could not be written: a full disk's own error does not."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _lock(descriptor: int) -> bool:
    """Takes the lock that the kernel drops when a process ends; False if somebody else has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # a file system without locks: then age decides
        if error.errno not in NO_LOCKS:
            raise
    return True


def remove_abandoned(partial: Path) -> None:
    """Removes a file whose writer has ended; under the lock, so that nobody begins to use it in
    between."""
    with suppress(FileNotFoundError), partial.open("rb") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            if time.time() - partial.stat().st_mtime < _ABANDONED_S:
                return
        partial.unlink()


def fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with naming(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_folder(folder: Path) -> None:
    """Flushes a folder where that is possible: not everybody may open a parent folder, not every
    file system flushes one."""
    try:
        fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EINVAL, *NO_LOCKS):
            raise
