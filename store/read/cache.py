"""A bounded local cache of what is read from a remote store.

Owns the files of ranges that were read before, and forgets those unused for longest. A range is
kept under the committed checksum of its object, so what was replaced since is not found; and it is
checked before it is kept and whenever it is used, so damage here or on the way is fetched again.
"""

import hashlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import numpy as np

from ..format.chunks.codecs import CRC_BYTES
from ..place.location import Forwarding, Location

CACHE_BYTES = 64 * 2**30
"""How much is kept unless told."""


class CachedReads(Forwarding):
    """A location whose ranges are kept in a folder.

    Args:
        location: where the objects are.
        folder: of the cache; shared by processes that read the same store.
        version: key of an object -> text that changes whenever its content does.
        max_bytes: bound on the ranges kept by this process.
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
        found = [(path.stat(), path.name) for path in self._folder.glob("*.range")]
        for status, file in sorted(found, key=lambda item: item[0].st_mtime_ns):
            self._sizes[file] = status.st_size
        self._held = sum(self._sizes.values())
        self._evict()

    def read_into(self, key: str, start: int, out: np.ndarray) -> int:
        """See `Location.read_into`; for ranges that end with the crc32c of the rest, as chunks and
        indices do. One that is damaged is fetched once more before the reader is told."""
        identity = f"{key}\0{self._version(key)}\0{start}\0{len(out)}"
        path = self._folder / (hashlib.sha256(identity.encode()).hexdigest()[:32] + ".range")
        if self._find(path, out):
            return len(out)
        found = self._location.read_into(key, start, out)
        if not _is_sound(out[:found]):
            found = self._location.read_into(key, start, out)
        if found == len(out) and _is_sound(out):
            self._keep(path, out)
        return found

    def _find(self, path: Path, out: np.ndarray) -> bool:
        """Fills `out` from the cache if the range is there and sound; drops it if not."""
        try:
            with path.open("rb", buffering=0) as file:
                found = file.readinto(out.data)
        except FileNotFoundError:
            return False
        sound = found == len(out) and _is_sound(out)
        with self._lock:
            if not sound:
                self._held -= self._sizes.pop(path.name, 0)
                path.unlink(missing_ok=True)
            elif path.name in self._sizes:
                self._sizes.move_to_end(path.name)
        return sound

    def _keep(self, path: Path, data: np.ndarray) -> None:
        """Stores a range; a cache that cannot be written is no reason to stop reading."""
        partial = path.with_suffix(f".{secrets.token_hex(4)}.partial")
        try:
            partial.write_bytes(data.data)
            partial.replace(path)
        except OSError:
            partial.unlink(missing_ok=True)
            return
        with self._lock:
            self._held += len(data) - self._sizes.pop(path.name, 0)
            self._sizes[path.name] = len(data)
            self._evict()

    def _evict(self) -> None:
        """Removes the ranges unused for longest until the rest fits."""
        while self._held > self._max_bytes:
            name, size = self._sizes.popitem(last=False)
            self._held -= size
            (self._folder / name).unlink(missing_ok=True)


def _is_sound(data: np.ndarray) -> bool:
    """Whether bytes end with the crc32c of the rest."""
    stored = int.from_bytes(data[-CRC_BYTES:].tobytes(), "little")
    return google_crc32c.value(data[:-CRC_BYTES]) == stored
