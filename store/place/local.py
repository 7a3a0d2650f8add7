"""Objects on a local disk: files under a folder.

Owns their reading (a range is one `pread`), their atomic and durable writing (a temporary file that
is flushed where that is asked for, and renamed) and the sweeping of what killed writers left. An
object is a regular file inside the folder: a link may lead from one place in it to another, but not
out of it, and nothing else is opened.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ...machine import available_cores
from .partials import (
    Writeback,
    fsync,
    fsync_folder,
    link,
    locked_partial,
    naming,
    remove_abandoned,
    target_of,
)

_FLUSHING = 8
"""Files flushed side by side."""

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class UnsafeObjectError(OSError):
    """What stands in the place of an object and is not opened: no regular file, or not inside."""


class LocalFiles:
    """A folder on this machine; see `location.Location` for the methods."""

    in_flight = min(4, max(2, available_cores()))
    streams_writes = True

    def __init__(self, root: Path):
        self.root = root.expanduser().absolute()
        self.url = str(self.root)
        self._real = os.path.realpath(self.root)

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        """See `Location.read`."""
        with self._opened(key) as descriptor:
            size = os.fstat(descriptor).st_size
            stop = size if stop is None else min(stop, size)
            return os.pread(descriptor, max(stop - start, 0), start)

    def read_into(self, key: str, start: int, out: np.ndarray) -> int:
        """See `Location.read_into`."""
        with self._opened(key) as descriptor:
            return os.preadv(descriptor, [out.data], start)

    def size(self, key: str) -> int:
        """See `Location.size`."""
        with self._opened(key) as descriptor:
            return os.fstat(descriptor).st_size

    def write(self, key: str, parts: Iterable[bytes | memoryview]) -> None:
        """See `Location.write`."""
        self._write(key, parts, durably=False)

    def replace(self, key: str, data: bytes) -> None:
        """See `Location.replace`: some file systems keep a rename, but not what was renamed, unless
        it was flushed before."""
        self._write(key, [data], durably=True)
        self._flush_folders([key])

    def create(self, key: str, data: bytes) -> bool:
        """See `Location.create`; where a file system has no links, looking must do."""
        path = self._writable(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked_partial(path) as file:
            with naming(path):
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            created = link(Path(file.name), path)
        self._flush_folders([key])
        return created

    def children(self, prefix: str = "") -> list[str]:
        """See `Location.children`; as on an object store, empty folders do not exist, nor leftovers
        of killed writes."""
        folder = self.root / prefix
        if not folder.is_dir():
            return []
        self._check_inside(folder, os.path.realpath(folder))
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if _holds_objects(entry))

    def remove(self, key: str) -> None:
        """See `Location.remove`."""
        path = self._writable(key)
        try:
            path.unlink()
        except FileNotFoundError:
            return
        fsync_folder(path.parent)

    def sweep(self, keys: Iterable[str]) -> None:
        """See `Location.sweep`; lists every folder once."""
        wanted = {self._writable(key) for key in keys}
        for folder in {path.parent for path in wanted}:
            for partial in folder.glob(".*.partial"):
                if folder / target_of(partial) in wanted:
                    remove_abandoned(partial)

    def flush(self, keys: Iterable[str]) -> None:
        """See `Location.flush`; once after the last write costs a fifth of once after each, side by
        side half of one after the other."""
        keys = list(keys)
        with ThreadPoolExecutor(_FLUSHING) as pool:
            list(pool.map(fsync, [self.root / key for key in keys]))
        self._flush_folders(keys)

    def newest(self) -> float:
        """See `Location.newest`."""
        files = (path for path in self.root.rglob("*") if not path.is_dir())
        return max(path.lstat().st_mtime for path in files)

    @contextmanager
    def _opened(self, key: str) -> Iterator[int]:
        """A descriptor of an object, read-only.

        Its kind is looked at first: to open a FIFO waits for its writer, to open a device may do
        anything. Where the descriptor leads is asked of the system, once, instead of looking at
        every folder on the way.
        """
        path = self.root / key
        try:
            kind = stat.S_IFMT(path.stat().st_mode)
            if kind != stat.S_IFREG:
                raise UnsafeObjectError(
                    f"{path} must be a regular file, got {_KINDS.get(kind, 'something else')};"
                    " remove it"
                )
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except NotADirectoryError as error:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
        try:
            self._check_inside(path, _real_path(descriptor, path))
            yield descriptor
        finally:
            os.close(descriptor)

    def _check_inside(self, path: Path, real: str) -> None:
        """Refuses what a link has led out of the folder."""
        if real != self._real and not real.startswith(self._real.rstrip("/") + "/"):
            raise UnsafeObjectError(
                f"{path} must be inside {self.root}, got a link that leads to {real}; put the file"
                " itself there (cp -L)"
            )

    def _writable(self, key: str) -> Path:
        """Path of an object that is to be written or removed; no link leads its folder out."""
        path = self.root / key
        self._check_inside(path, os.path.realpath(path.parent))
        return path

    def _flush_folders(self, keys: Iterable[str]) -> None:
        """Every folder on the way to the objects once: a file whose name is not on the disk is
        lost, whatever is known of its bytes."""
        folders = {self.root.parent}
        for key in keys:
            path = self.root / key
            folders.update(path.parents[: len(path.parents) - len(self.root.parents)])
        with ThreadPoolExecutor(_FLUSHING) as pool:
            list(pool.map(fsync_folder, folders))

    def _write(self, key: str, parts: Iterable[bytes | memoryview], durably: bool) -> None:
        """Writes beside the object under a name of its own, and renames.

        The name is locked as long as the process lives, so that `sweep` leaves it alone.
        """
        path = self._writable(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked_partial(path) as file:
            writeback = Writeback(file)
            for part in parts:
                with naming(path):
                    writeback.wrote(file.write(part))
            with naming(path):
                file.flush()
                if durably:
                    os.fsync(file.fileno())
            Path(file.name).replace(path)


def _real_path(descriptor: int, path: Path) -> str:
    """Where an open file is, links followed."""
    try:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())
    except FileNotFoundError:  # a system without it
        return os.path.realpath(path)


def _holds_objects(entry: os.DirEntry[str]) -> bool:
    """Whether a directory entry is an object or a folder with one; links are not followed, for they
    may lead anywhere, and round in circles."""
    if not entry.is_dir(follow_symlinks=False):
        return not entry.name.endswith(".partial")
    return any(
        not name.endswith(".partial")
        for folder, folders, files in os.walk(entry.path)
        for name in [*files, *(name for name in folders if Path(folder, name).is_symlink())]
    )
