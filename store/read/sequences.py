"""Sequences of a token store, as an array whose rows are read from the store when indexed."""

from typing import Any

import numpy as np

from ...foreign import short
from .array_reader import ArrayReader


class StoredSequences:
    """uint32 [n, context], read from the store when indexed by a number, a slice or an array of
    numbers."""

    dtype = np.dtype(np.uint32)
    ndim = 2

    def __init__(self, reader: ArrayReader):
        self._reader = reader
        self.shape = (reader.layout.rows, reader.layout.width)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"StoredSequences({self.shape[0]:,} sequences of {self.shape[1]:,} tokens)"

    def __getitem__(self, index: int | slice | np.ndarray | list[int]) -> np.ndarray:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return self._reader.read_rows(start, max(start, stop))
            return self[np.arange(start, stop, step)]
        rows = np.asarray(index)
        whole = rows.dtype.kind in "iu" or not rows.size
        if isinstance(index, tuple) or not whole or rows.ndim > 1:
            raise ValueError(
                "sequences must be indexed by a whole number, a slice or a list of whole numbers, "
                f"got {short(repr(index))}"
            )
        found = self._gather(rows.reshape(-1).astype(np.int64))
        return found if rows.ndim else found[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        whole = self[:]
        return whole if dtype is None else whole.astype(dtype)

    def _gather(self, rows: np.ndarray) -> np.ndarray:
        """Sequences by number, in any order; every chunk is decoded once."""
        if rows.size and not (-len(self) <= rows.min() and rows.max() < len(self)):
            raise IndexError(
                f"sequence must be in 0 … {len(self) - 1}, got {rows.min()} … {rows.max()}"
            )
        rows = rows % len(self)
        layout = self._reader.layout
        out, buffer = layout.empty(len(rows)), layout.empty(layout.chunk_rows)
        chunks = rows // layout.chunk_rows
        for chunk in np.unique(chunks):
            self._reader.read_chunk(int(chunk), buffer)
            mine = chunks == chunk
            out[mine] = buffer[rows[mine] - chunk * layout.chunk_rows]
        return out
