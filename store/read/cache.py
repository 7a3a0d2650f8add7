"""A bounded local cache of ranges that were read from a remote store.

Owns the cache's files, and removes the least recently used ones. The committed checksum of an
object is part of a range's name, so a range of an object that was replaced is not found. A range is
checked before it is kept and whenever it is used, so one that is damaged here or in transit is
fetched again. An error of the folder never ends reading: a range that cannot be read is fetched,
and one that cannot be removed, such as another user's, stays.

Processes of one machine that read the same store share the folder. One of them fetches a range and
holds a lock file meanwhile; the others wait for the range. The kernel releases the lock of a
process that ends. If a process is halted, the others fetch the range themselves after `PATIENCE_S`.
"""

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import google_crc32c
import numpy as np
from filelock import FileLock

from ..format.chunks.codecs import CRC_BYTES
from ..place.location import Forwarding, Location

PATIENCE_S = 30.0
"""How long to wait for a range that another process fetches."""

_POLL_S = 0.01
_LEFT_BEHIND_S = 3600.0
"""A temporary file or lock of this age was left by a killed process."""

_LOOK_SHARE = 1 / 8
"""After this share of the bound was kept, the folder is listed to count other processes' ranges."""


class CachedReads(Forwarding):
    """A location that keeps the ranges it reads in a local folder.

    Args:
        location: where the objects are.
        folder: of the cache; shared by processes that read the same store.
        version: key of an object -> text that changes whenever its content does.
        max_bytes: bound on the bytes kept. Each process may exceed it by an eighth before it counts
            the ranges of the others.
    """

    def __init__(
        self, location: Location, folder: Path, version: Callable[[str], str], max_bytes: int
    ):
        if max_bytes < 1:
            raise ValueError(f"cache_bytes must be at least 1, got {max_bytes}")
        super().__init__(location)
        self._max_bytes, self._version = max_bytes, version
        self._folder = folder.expanduser() / hashlib.sha256(location.url.encode()).hexdigest()[:24]
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._held = self._kept = 0
        self._sweep()
        self._look()
        self._evict()

    def read_into(self, key: str, start: int, out: np.ndarray) -> int:
        """See `Location.read_into`; for ranges that end with the crc32c of the rest, as chunks and
        indices do. A damaged range is fetched a second time before it is passed on."""
        identity = f"{key}\0{self._version(key)}\0{start}\0{len(out)}"
        path = self._folder / (hashlib.sha256(identity.encode()).hexdigest()[:32] + ".range")
        if self._find(path, out):
            return len(out)
        with _alone(path):
            if self._find(path, out):  # another process fetched it while this one waited
                return len(out)
            found = self._location.read_into(key, start, out)
            if not _is_sound(out[:found]):
                found = self._location.read_into(key, start, out)
            if found == len(out) and _is_sound(out):
                self._keep(path, out)
        return found

    def _find(self, path: Path, out: np.ndarray) -> bool:
        """Fills `out` from the cache; False if the range is missing, cannot be read, or was damaged
        and is removed."""
        try:
            with path.open("rb", buffering=0) as file:
                found = file.readinto(out.data)
        except OSError:
            return False
        sound = found == len(out) and _is_sound(out)
        with self._lock:
            if not sound:
                self._held -= self._sizes.pop(path.name, 0)
                _remove(path)
            else:
                self._count(path.name, found)
        return sound

    def _keep(self, path: Path, data: np.ndarray) -> None:
        """Stores a range; an error of writing is ignored, so that reading goes on."""
        partial = path.with_suffix(f".{secrets.token_hex(4)}.partial")
        try:
            partial.write_bytes(data.data)
            partial.replace(path)
        except OSError:
            _remove(partial)
            return
        with self._lock:
            self._count(path.name, len(data))
            self._kept += len(data)
            if self._kept > _LOOK_SHARE * self._max_bytes:
                self._look()
            self._evict()

    def _count(self, name: str, size: int) -> None:
        """Records a range as the most recently used."""
        self._held += size - self._sizes.pop(name, 0)
        self._sizes[name] = size

    def _look(self) -> None:
        """Lists the folder, to count ranges that other processes have added or removed."""
        found: dict[str, tuple[int, int]] = {}
        for path in self._folder.glob("*.range"):
            with suppress(OSError):
                status = path.stat()
                found[path.name] = status.st_mtime_ns, status.st_size
        for name in [name for name in self._sizes if name not in found]:
            self._held -= self._sizes.pop(name)
        for name in sorted(found.keys() - self._sizes.keys(), key=found.__getitem__):
            self._count(name, found[name][1])
        self._kept = 0

    def _sweep(self) -> None:
        """Removes temporary files and locks that killed processes have left."""
        for pattern in ("*.partial", "*.lock"):
            for path in self._folder.glob(pattern):
                with suppress(OSError):
                    if time.time() - path.stat().st_mtime > _LEFT_BEHIND_S:
                        path.unlink()

    def _evict(self) -> None:
        """Removes the least recently used ranges until the rest fits. One that stays is tried again
        when the folder is listed."""
        while self._held > self._max_bytes:
            name, size = self._sizes.popitem(last=False)
            self._held -= size
            _remove(self._folder / name)


def _remove(path: Path) -> None:
    """Removes a file if it can be removed: another user's may not be ours to remove."""
    with suppress(OSError):
        path.unlink()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Lets one thread of all processes at a time fetch a range. Without locks, or if the owner of
    the lock stalls, reading goes on."""
    file = path.with_suffix(".lock")
    lock = FileLock(file, poll_interval=_POLL_S, fallback_to_soft=False, thread_local=False)
    with suppress(OSError):  # a timeout too
        lock.acquire(timeout=PATIENCE_S)
    try:
        yield
    finally:
        if lock.is_locked:
            _remove(file)  # while it is locked: waiters see that the file has no name
            lock.release()


def _is_sound(data: np.ndarray) -> bool:
    """Whether bytes end with the crc32c of the rest."""
    stored = int.from_bytes(data[-CRC_BYTES:].tobytes(), "little")
    return google_crc32c.value(data[:-CRC_BYTES]) == stored
