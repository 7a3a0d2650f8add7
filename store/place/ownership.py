"""Ownership of a folder: one process at a time writes into it.

Owns the lock and the file that names its owner. The lock is the kernel's; it is released when the
process ends, however it ends. On a file system without locks there is a lease instead: a file that
the owner touches every few seconds. Another process may take the lease if it was not touched for
`LEASE_S`. So an owner that was halted for longer may find a second one in its folder.

If the locks of a file system hold on one machine only (some object stores mounted as folders), the
folder is not protected from other machines.
"""

import errno
import math
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLease, Timeout

from ...foreign import Document, read_document
from .files import write_json

PREFIX = ".owner."
"""Files whose names begin like this belong to the lock; they are not content of the folder."""

LEASE_S, PATIENCE_S = 30.0, 35.0
"""How long an owner may leave its lease untouched, and how long a new process watches a lease
before it gives up."""

POLL_S = 0.5
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
_LOCK, _LEASE, _WHO = f"{PREFIX}lock", f"{PREFIX}lease", f"{PREFIX}json"


class Owner(Document):
    """The process that owns a folder."""

    host: str
    pid: int
    since: str
    """UTC, ISO 8601."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


@contextmanager
def owned(
    folder: Path, wait: bool | None = False, name: str = "out", limit_s: float = math.inf
) -> Iterator[None]:
    """Owns the folder until the block ends; makes it, and removes it again if it stays empty.

    A folder that this user may not write to is not locked: it can only be read.

    Args:
        folder: the folder to own.
        wait: whether to wait for another owner to end, instead of raising; None for a command
            without --wait.
        name: the setting that names the folder, for errors.
        limit_s: how long to wait.

    Raises:
        ValueError: another process owns it; the text says who, since when, and what to do.
        OSError: the folder cannot be made.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(f"{name} must be a folder, got the file {error.filename}") from error
    except FileNotFoundError as error:  # below /proc, or on a disk that has gone
        raise FileNotFoundError(
            f"{name} must be a folder that can be made, got {folder}; choose another place"
        ) from error
    try:
        if not os.access(folder, os.W_OK):
            yield
            return
        lock = _locked(folder, wait, name, limit_s)
        try:
            write_json(folder / _WHO, _me().model_dump())
            yield
        finally:
            # The lock's file is removed while it is locked: a process that waits for it then sees
            # that the file has no name, and makes a new one.
            for path in (folder / _WHO, *([folder / _LOCK] if isinstance(lock, FileLock) else [])):
                path.unlink(missing_ok=True)
            lock.release()
    finally:
        with suppress(OSError):  # not empty: the folder stays
            for path in made:
                path.rmdir()


def _locked(folder: Path, wait: bool | None, name: str, limit_s: float) -> BaseFileLock:
    """Takes the folder's lock; waits for it, or raises."""
    lock: BaseFileLock = FileLock(folder / _LOCK, fallback_to_soft=False, thread_local=False)
    patience_s, asked, began = 0.0, False, time.monotonic()
    while True:
        try:
            lock.acquire(timeout=patience_s, poll_interval=POLL_S)
            return lock
        except Timeout:
            who = _owner(folder)
            if not wait:
                advice = "begin" if wait is None else "add --wait to begin"
                raise ValueError(
                    f"{name} must be of one run at a time, got {folder}, which {who} owns; "
                    f"{advice} when that has ended, or pass another folder"
                ) from None
            left_s = limit_s - (time.monotonic() - began)
            if left_s <= 0:
                raise ValueError(
                    f"{name} must be of one run at a time, got {folder}, which {who} still owns "
                    f"after {limit_s:g} s; it has halted, or trains on: end it, then run the same "
                    "command"
                ) from None
            if not asked:
                print(f"waiting for {who}, which owns {folder}", file=sys.stderr, flush=True)
            patience_s, asked = min(60.0, left_s), True
        except FileNotFoundError:  # the owner ended and removed the empty folder
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if error.errno not in _NO_LOCKS or isinstance(lock, SoftFileLease):
                raise
            (folder / _LOCK).unlink(missing_ok=True)
            lock = SoftFileLease(folder / _LEASE, lease_duration=LEASE_S, thread_local=False)
            patience_s = PATIENCE_S


def _me() -> Owner:
    """This process."""
    now = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
    return Owner(host=socket.gethostname(), pid=os.getpid(), since=now)


def _owner(folder: Path) -> str:
    """Text for the owner of the folder; "another process" if it has not written its name yet."""
    path = folder / _WHO
    with suppress(OSError, ValueError):
        return str(read_document(Owner, path.read_bytes(), str(path)))
    return "another process"
