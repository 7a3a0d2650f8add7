"""Where a store lives: objects under a URL, on a local disk or behind fsspec.

Owns reading (whole or a range), atomic writing, listing and removing of objects, and the error text
when a URL cannot be used. Knows no format. Local folders bypass fsspec: a range is one `pread`, and
a write is a temporary file that is renamed.
"""

import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

StorageOptions = dict[str, Any] | None


class Location(Protocol):
    """Objects under one URL; keys are relative paths with `/`."""

    url: str

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes [start, stop) of an object, fewer where it ends before; FileNotFoundError if there
        is none."""
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


class RemoteObjects:
    """Objects behind an fsspec file system; a single put is atomic on every object store."""

    def __init__(self, url: str, storage_options: StorageOptions):
        import fsspec

        self.url = url.rstrip("/")
        try:
            self._fs, self._root = fsspec.url_to_fs(self.url, **(storage_options or {}))
        except ImportError as error:
            raise ValueError(f"URL {url} needs a driver: {error}; {_extra(url)}") from error
        except ValueError as error:
            raise ValueError(f"URL {url} cannot be used: {error}") from error

    def _path(self, key: str) -> str:
        return f"{self._root.rstrip('/')}/{key}".rstrip("/")

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        """See `Location.read`."""
        if stop is not None and stop <= start:
            return b""
        whole = start == 0 and stop is None
        path = self._path(key)
        return self._fs.cat_file(path) if whole else self._fs.cat_file(path, start=start, end=stop)

    def write(self, key: str, parts: Iterable[bytes]) -> None:
        """See `Location.write`; the object is held in memory until it is sent."""
        self._fs.pipe_file(self._path(key), b"".join(parts))

    def children(self, prefix: str = "") -> list[str]:
        """See `Location.children`."""
        self._fs.invalidate_cache()
        try:
            found = self._fs.ls(self._path(prefix), detail=False)
        except FileNotFoundError:
            return []
        return sorted({Path(name.rstrip("/")).name for name in found})

    def remove(self, key: str) -> None:
        """See `Location.remove`."""
        try:
            self._fs.rm_file(self._path(key))
        except FileNotFoundError:
            return

    def sweep(self, keys: Iterable[str]) -> None:
        """See `Location.sweep`; an object store shows nothing of an unfinished put."""

    def flush(self, keys: Iterable[str]) -> None:
        """See `Location.flush`; a put has returned only when the object is stored."""


def _holds_objects(path: Path) -> bool:
    """Whether a directory entry is an object or a folder with one."""
    if path.is_dir():
        return any(_holds_objects(child) for child in path.iterdir())
    return not path.name.endswith(".partial")


def _extra(url: str) -> str:
    """What to install for a protocol."""
    known = {"s3": "pip install 'scopeworks[s3]'", "gs": "pip install gcsfs"}
    return known.get(url.partition("://")[0], "install the fsspec driver of that protocol")
