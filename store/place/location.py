"""The interface to objects under a URL: reading (whole or a range), atomic writing, listing.

`local` implements it for this machine's disks, `remote` for everything behind fsspec; `locate`
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
    """How many reads should run at once: on a local disk, as many as there are threads that
    decompress; on an object store many, because each waits for an answer."""

    streams_writes: bool
    """Whether `write` writes parts as they come. Otherwise the object is held in memory until it is
    complete, and several may be sent at once."""

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes [start, stop) of an object, fewer if it is shorter; FileNotFoundError if there is
        no such object."""
        ...

    def read_into(self, key: str, start: int, out: np.ndarray) -> int:
        """Fills `out` (uint8) with an object's bytes from `start` on; returns how many it read."""
        ...

    def size(self, key: str) -> int:
        """Size of an object in bytes; FileNotFoundError if there is no such object."""
        ...

    def write(self, key: str, parts: Iterable[bytes | memoryview]) -> None:
        """Writes an object atomically: readers see the old one or all of the new one, never a
        part. Each part is used before the next is requested, because its memory may then change."""
        ...

    def replace(self, key: str, data: bytes) -> None:
        """Writes an object atomically and durably: also after a power cut, the old one or all of
        the new one is there."""
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Writes an object as `replace` does, if it does not exist. Of several processes that call
        this at once, one succeeds. False if the object exists, which stays; one of equal content
        may count as written."""
        ...

    def children(self, prefix: str = "") -> list[str]:
        """Sorted names directly below a prefix ("" is the root); [] if there are none."""
        ...

    def remove(self, key: str) -> None:
        """Removes an object, durably; does nothing if it does not exist."""
        ...

    def sweep(self, keys: Iterable[str]) -> None:
        """Removes the temporary files that killed writers of these objects left; leaves those of
        living writers."""
        ...

    def flush(self, keys: Iterable[str]) -> None:
        """Returns when the objects would survive a power cut."""
        ...

    def newest(self) -> float:
        """When the newest object was written, in seconds since 1970; on a disk, temporary files
        count too. OSError if it cannot be known."""
        ...


def read_bounded(location: Location, key: str, bound: int) -> bytes:
    """At most `bound` + 1 bytes of an object; so many bytes show that it is too large."""
    return location.read(key, 0, bound + 1)


class Forwarding:
    """A location that passes every call on to another one; subclasses override what they change.
    See `Location` for the methods."""

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
    """Keys of the objects below a prefix, or the prefix itself if it is an object."""
    names = location.children(prefix)
    if not names:
        yield prefix
    for name in names:
        yield from objects_below(location, f"{prefix}/{name}")


def joined(parts: Iterable[bytes | memoryview]) -> bytes:
    """The parts of an object as one; each is copied before the next is requested."""
    held = io.BytesIO()
    for part in parts:
        held.write(part)
    return held.getvalue()
