"""Where a store lives: objects under a URL, on a local disk or behind fsspec.

Owns the interface to objects, reading (whole or a range), atomic writing, listing and removing,
and the local implementation: a range is one `pread`, a write is a temporary file that is renamed.
What lies behind fsspec is `remote`'s. Knows no format.
"""

import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

StorageOptions = dict[str, Any] | None


class Location(Protocol):
    """Objects under one URL; keys are relative paths with `/`."""

    url: str

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

    def write(self, key: str, parts: Iterable[bytes]) -> None:
        """Writes an object atomically: readers see the old one or all of the new one, never a
        part."""
        ...

    def children(self, prefix: str = "") -> list[str]:
        """Sorted names directly below a prefix ("" is the store itself); [] if there are none."""
        ...

    def remove(self, key: str) -> None:
        """Removes an object; nothing happens if there is none."""
        ...

    def sweep(self, keys: Iterable[str]) -> None:
        """Removes what killed writes of these objects left behind."""
        ...

    def flush(self, keys: Iterable[str]) -> None:
        """Returns when the objects would survive a power cut."""
        ...


def locate(url: str | os.PathLike[str], storage_options: StorageOptions = None) -> Location:
    """The location of a URL: a local path, file://, or any fsspec protocol (gs://, s3://,
    memory://, …).

    Raises:
        ValueError: the protocol is unknown, or its driver is not installed.
    """
    text = os.fspath(url)
    protocol, separator, rest = text.partition("://")
    if not separator or protocol == "file":
        if storage_options:
            raise ValueError(f"storage options have no effect on the local path {text}; leave out")
        return LocalFiles(Path(rest if separator else text))
    from .remote import RemoteObjects  # fsspec and its drivers, only where they are needed

    return RemoteObjects(text, storage_options)


class LocalFiles:
    """A folder on this machine."""

    def __init__(self, root: Path):
        self.root = root.expanduser().absolute()
        self.url = str(self.root)

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        """See `Location.read`."""
        with (self.root / key).open("rb", buffering=0) as file:
            if stop is None:
                stop = os.fstat(file.fileno()).st_size
            return os.pread(file.fileno(), max(stop - start, 0), start)

    def read_into(self, key: str, start: int, out: np.ndarray) -> int:
        """See `Location.read_into`."""
        descriptor = os.open(self.root / key, os.O_RDONLY)
        try:
            return os.preadv(descriptor, [out.data], start)
        finally:
            os.close(descriptor)

    def size(self, key: str) -> int:
        """See `Location.size`."""
        return (self.root / key).stat().st_size

    def write(self, key: str, parts: Iterable[bytes]) -> None:
        """See `Location.write`."""
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}.partial")
        try:
            with partial.open("wb") as file:
                for part in parts:
                    file.write(part)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def children(self, prefix: str = "") -> list[str]:
        """See `Location.children`; as on an object store, empty folders do not exist, nor leftovers
        of killed writes."""
        folder = self.root / prefix
        if not folder.is_dir():
            return []
        return sorted(path.name for path in folder.iterdir() if _holds_objects(path))

    def remove(self, key: str) -> None:
        """See `Location.remove`."""
        (self.root / key).unlink(missing_ok=True)

    def sweep(self, keys: Iterable[str]) -> None:
        """See `Location.sweep`; lists every folder once."""
        wanted = {(self.root / key) for key in keys}
        for folder in {path.parent for path in wanted}:
            for partial in folder.glob(".*.partial"):
                target = partial.name[1:].rsplit(".", 2)[0]
                if folder / target in wanted:
                    partial.unlink(missing_ok=True)

    def flush(self, keys: Iterable[str]) -> None:
        """See `Location.flush`; once after the last write costs a fifth of once after each."""
        for key in keys:
            descriptor = os.open(self.root / key, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _holds_objects(path: Path) -> bool:
    """Whether a directory entry is an object or a folder with one."""
    if path.is_dir():
        return any(_holds_objects(child) for child in path.iterdir())
    return not path.name.endswith(".partial")
