"""Objects on a local disk: files under a folder.

Owns their reading (a range is one `pread`), their atomic writing (a temporary file that is renamed,
and flushed first if it must be durable) and the removal of files that killed writers left. An
object is a regular file inside the folder. A link may lead from one place in the folder to another,
but not out of it; nothing else is opened.
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
"""Files flushed in parallel."""

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class UnsafeObjectError(OSError):
    """A path is not opened: it is not a regular file, or it leads out of the folder."""


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
        """See `Location.replace`."""
        # After a power cut, some file systems have the rename but not the file's content, unless
        # the file was flushed before.
        self._write(key, [data], durably=True)
        self._flush_folders([key])

    def create(self, key: str, data: bytes) -> bool:
        """See `Location.create`; on a file system without links, two processes may both succeed."""
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
        """See `Location.children`; as on an object store, empty folders and temporary files do not
        count."""
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
        """See `Location.flush`."""
        # Flushing once after the last write takes a fifth of the time of flushing after each write;
        # in parallel, half of that.
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
        """A read-only descriptor of an object."""
        path = self.root / key
        try:
            # Checked before opening: opening a FIFO waits for its writer, opening a device may do
            # anything.
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
            # The system says where the descriptor leads, so no folder on the way is looked at.
            self._check_inside(path, _real_path(descriptor, path))
            yield descriptor
        finally:
            os.close(descriptor)

    def _check_inside(self, path: Path, real: str) -> None:
        """Refuses a path that a link leads out of the folder."""
        if real != self._real and not real.startswith(self._real.rstrip("/") + "/"):
            raise UnsafeObjectError(
                f"{path} must be inside {self.root}, got a link that leads to {real}; put the file"
                " itself there (cp -L)"
            )

    def _writable(self, key: str) -> Path:
        """Path of an object to be written or removed; refuses a folder outside the root."""
        path = self.root / key
        self._check_inside(path, os.path.realpath(path.parent))
        return path

    def _flush_folders(self, keys: Iterable[str]) -> None:
        """Flushes every folder on the way to the objects once: until its name is on the disk, a
        file is lost by a power cut, even if its bytes are there."""
        folders = {self.root.parent}
        for key in keys:
            path = self.root / key
            folders.update(path.parents[: len(path.parents) - len(self.root.parents)])
        with ThreadPoolExecutor(_FLUSHING) as pool:
            list(pool.map(fsync_folder, folders))

    def _write(self, key: str, parts: Iterable[bytes | memoryview], durably: bool) -> None:
        """Writes a temporary file beside the object, and renames it.

        The temporary file is locked while the process lives, so that `sweep` leaves it alone.
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
    """Path of an open file, with links resolved."""
    try:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())
    except FileNotFoundError:  # a system without /proc
        return os.path.realpath(path)


def _holds_objects(entry: os.DirEntry[str]) -> bool:
    """Whether a directory entry is an object or a folder with one. Links are not followed: they may
    lead anywhere, also in a circle."""
    if not entry.is_dir(follow_symlinks=False):
        return not entry.name.endswith(".partial")
    return any(
        not name.endswith(".partial")
        for folder, folders, files in os.walk(entry.path)
        for name in [*files, *(name for name in folders if Path(folder, name).is_symlink())]
    )
