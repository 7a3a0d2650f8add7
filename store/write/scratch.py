"""Scratch space for a bucket's rows: written in any order, read in the stored order.

Owns its memory, which beyond a bound is an unnamed temporary file.
"""

import mmap
import os
import tempfile
from pathlib import Path

import numpy as np

from ..format.arrays import ArrayLayout
from ..format.chunks.codecs import STORAGE


class Scratch:
    """Numbered places for the rows of several arrays; reused for one bucket after another.

    Args:
        layouts: array name -> layout.
        rows: number of places.
        memory_bytes: up to this size the rows are held in memory, beyond it in a file. The file has
            no name, so that nothing is left when the process is killed.
        scratch_dir: folder of that file; the system's temporary folder by default.

    Raises:
        OSError: there is no space for the file.
    """

    def __init__(
        self,
        layouts: dict[str, ArrayLayout],
        rows: int,
        memory_bytes: int,
        scratch_dir: str | Path | None,
    ):
        sizes = {
            name: rows * (layout.width or 1) * STORAGE[layout.codec.collected].itemsize
            for name, layout in layouts.items()
        }
        total = sum(sizes.values())
        self._map = _mapped_file(total, scratch_dir) if total > memory_bytes else None
        self._arrays: dict[str, np.ndarray] = {}
        offset = 0
        for name, layout in layouts.items():
            shape, dtype = layout.shape(rows), STORAGE[layout.codec.collected]
            if self._map is None:
                self._arrays[name] = np.empty(shape, dtype)
            else:
                self._arrays[name] = np.ndarray(shape, dtype, self._map, offset)
            offset += sizes[name]
        self.begin(rows)

    def begin(self, rows: int) -> None:
        """Forgets all rows and offers `rows` places, at most as many as at the start."""
        self._present = np.zeros(rows, dtype=bool)
        self._filled: np.ndarray | None = None

    @property
    def filled(self) -> int:
        """Places that hold a row."""
        return int(self._present.sum())

    def scatter(self, places: np.ndarray, blocks: dict[str, np.ndarray]) -> None:
        """Puts row j of every block at places[j]."""
        for name, block in blocks.items():
            self._arrays[name][places] = block
        self._present[places] = True
        self._forget()

    def finish(self) -> None:
        """Ends the scattering; after this, several threads may call `rows`."""
        self._filled = np.flatnonzero(self._present)

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows [start, stop) of an array, counting only places that hold a row; valid until `begin`
        or `close`."""
        assert self._filled is not None
        if len(self._filled) < len(self._present):
            block = self._arrays[name][self._filled[start:stop]]
        elif self._map is not None:
            block = self._arrays[name][start:stop].copy()
        else:
            return self._arrays[name][start:stop]
        self._forget()
        return block

    def close(self) -> None:
        """Deletes the file."""
        self._arrays.clear()
        if self._map is not None:
            self._map.close()

    def _forget(self) -> None:
        """Lets the kernel remove the file's pages from this process's memory; their content stays
        in the file."""
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


def _mapped_file(size: int, scratch_dir: str | Path | None) -> mmap.mmap:
    """A memory-mapped file without a name. Its blocks are reserved now, so that a full disk is an
    OSError here instead of a SIGBUS later."""
    with tempfile.TemporaryFile(dir=scratch_dir, prefix="scopeworks-") as file:
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:  # macOS
                file.truncate(size)
        except OSError as error:
            place = scratch_dir or tempfile.gettempdir()
            raise OSError(
                error.errno,
                f"scratch file of {size:,} bytes cannot be made in {place} ({error.strerror}); set "
                "TMPDIR to a roomier folder",
            ) from error
        return mmap.mmap(file.fileno(), size)
