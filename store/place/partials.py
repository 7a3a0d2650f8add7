"""Temporary files: `.NAME.<random>.partial`, locked while written, renamed when complete.

Owns their locks, which show that their writer lives, and their way to the disk. The kernel is asked
to begin writing to the disk early (Linux only). By default it waits until memory fills or a file is
flushed, and then the flush takes long. A store is written a sixth faster this way.
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
"""Errors that file systems without locks give."""

_ABANDONED_S = 3600
"""Without locks, a temporary file of this age counts as left by a killed process."""

_SPAN = 2**22
"""The kernel is asked to write after every so many bytes."""

_BEGIN = 2
"""SYNC_FILE_RANGE_WRITE of <fcntl.h>: begins writing, does not wait, guarantees nothing."""


class Writeback:
    """Makes the kernel write a new file to the disk while it is still being written."""

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
    """Linux's function of that name; None elsewhere. Its result is ignored: the later fsync reports
    every error."""
    try:
        function = ctypes.CDLL(None).sync_file_range
    except (AttributeError, OSError, TypeError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return function


_SYNC_FILE_RANGE = _sync_file_range()


def target_of(partial: Path) -> str:
    """Name of the file that a temporary file becomes when it is complete."""
    return partial.name[1:].rsplit(".", 2)[0]


@contextmanager
def locked_partial(path: Path) -> Iterator[BinaryIO]:
    """A new locked temporary file, which the caller renames to `path`; removed if the block
    fails."""
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
    """Renames a temporary file to `path` if that does not exist; removes it otherwise.

    Returns:
        Whether it was renamed.
    """
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
    """Adds the file's path to an error: the error of a full disk does not name it."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # not the system's: it has a text of its own
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _lock(descriptor: int) -> bool:
    """Takes the kernel's lock, which ends with the process; False if another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # a file system without locks: then age decides
        if error.errno not in NO_LOCKS:
            raise
    return True


def remove_abandoned(partial: Path) -> None:
    """Removes a temporary file whose writer has ended; under its lock, so that no process begins to
    use it meanwhile."""
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
    """Flushes a file to the disk; an error names the file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with naming(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_folder(folder: Path) -> None:
    """Flushes a folder's entries to the disk, if possible: a user may lack the right to open a
    parent folder, and some file systems cannot flush folders."""
    try:
        fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EINVAL, *NO_LOCKS):
            raise
