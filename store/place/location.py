"""The interface to objects under a URL: reading (whole or a range), atomic writing, listing.

`local` implements it for this machine's disks, `remote` for what is behind fsspec; `locate`
chooses.
"""

import io
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np

StorageOptions = dict[str, Any] | None


class Location(Protocol):
    """Objects under one URL; keys are relative paths with `/`."""

    url: str

    in_flight: int
    """Reads that are worth having under way at once: as many as threads can decompress where bytes
    come from a disk, many where each waits for an answer from far away."""

    streams_writes: bool
    """Whether `write` passes parts on as they come; else the object is held in memory until it is
    complete, and several may be sent at once."""

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes [start, stop) of an object, fewer where it ends before; FileNotFoundError if there
        is none."""
        ...

    def read_into(self, key: str, start: int, out: np.ndarray) -> int:
        """Fills `out` (uint8) with the bytes from `start` on; returns how many there were."""
        ...

    def size(self, key: str) -> int:
        """Bytes of an object; FileNotFoundError if there is none."""
        ...

    def write(self, key: str, parts: Iterable[bytes | memoryview]) -> None:
        """Writes an object atomically: readers see the old one or all of the new one, never a
        part. A part is used before the next one is asked for, since its memory may then change."""
        ...

    def replace(self, key: str, data: bytes) -> None:
        """Writes an object that is held in memory, atomically and durably: after a power cut, too,
        the old one or all of the new one is there."""
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Writes an object as `replace` does, if there is none; False, and nothing is written, if
        there is one of other content. Of several that do so at once one succeeds."""
        ...

    def children(self, prefix: str = "") -> list[str]:
        """Sorted names directly below a prefix ("" is the store itself); [] if there are none."""
        ...

    def remove(self, key: str) -> None:
        """Removes an object, durably; nothing happens if there is none."""
        ...

    def sweep(self, keys: Iterable[str]) -> None:
        """Removes what killed writes of these objects left behind; not what a living process is
        writing."""
        ...

    def flush(self, keys: Iterable[str]) -> None:
        """Returns when the objects would survive a power cut."""
        ...

    def newest(self) -> float:
        """When the newest object was written, in seconds since the epoch; on a disk unfinished
        files count too. OSError where that cannot be known."""
        ...


def read_bounded(location: Location, key: str, bound: int) -> bytes:
    """An object that should have at most `bound` bytes; of a larger one its beginning, one byte
    more."""
    return location.read(key, 0, bound + 1)


class Forwarding:
    """A location that passes everything on to another; what builds on it says what it does
    differently. See `Location` for the methods."""

    def __init__(self, location: Location):
        self._location, self.url = location, location.url
        self.in_flight, self.streams_writes = location.in_flight, location.streams_writes

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        """See `Location.read`."""
        return self._location.read(key, start, stop)

    def read_into(self, key: str, start: int, out: np.ndarray) -> int:
        """See `Location.read_into`."""
        return self._location.read_into(key, start, out)

    def size(self, key: str) -> int:
        """See `Location.size`."""
        return self._location.size(key)

    def write(self, key: str, parts: Iterable[bytes | memoryview]) -> None:
        """See `Location.write`."""
        self._location.write(key, parts)

    def replace(self, key: str, data: bytes) -> None:
        """See `Location.replace`."""
        self._location.replace(key, data)

    def create(self, key: str, data: bytes) -> bool:
        """See `Location.create`."""
        return self._location.create(key, data)

    def children(self, prefix: str = "") -> list[str]:
        """See `Location.children`."""
        return self._location.children(prefix)

    def remove(self, key: str) -> None:
        """See `Location.remove`."""
        self._location.remove(key)

    def sweep(self, keys: Iterable[str]) -> None:
        """See `Location.sweep`."""
        self._location.sweep(keys)

    def flush(self, keys: Iterable[str]) -> None:
        """See `Location.flush`."""
        self._location.flush(keys)

    def newest(self) -> float:
        """See `Location.newest`."""
        return self._location.newest()


def objects_below(location: Location, prefix: str) -> Iterator[str]:
    """Keys of the objects below a prefix, or the prefix itself if it is one."""
    names = location.children(prefix)
    if not names:
        yield prefix
    for name in names:
        yield from objects_below(location, f"{prefix}/{name}")


def joined(parts: Iterable[bytes | memoryview]) -> bytes:
    """The parts of an object as one, each used before the next is asked for."""
    held = io.BytesIO()
    for part in parts:
        held.write(part)
    return held.getvalue()
