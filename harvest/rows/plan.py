"""The plan: which token becomes which row, known from the tokens alone.

Owns the mask (positions whose activations are dropped) and the global numbering of the rows that
are left. Rows are numbered by sequence, then by position; bucket i is rows [i·R, (i + 1)·R) for R
rows a bucket. Both follow from the tokens. So buckets can be harvested by any process in any order,
and hold the same rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

_SCAN_TOKENS = 2**22


@dataclass(frozen=True)
class Mask:
    """Positions that give no row: those of some token ids, and a constant prefix."""

    token_ids: tuple[int, ...]
    prefix: int = 0

    def kept(self, tokens: np.ndarray) -> np.ndarray:
        """Which positions of sequences [n, context] give a row: bool [n, context]."""
        kept = ~np.isin(tokens, np.array(self.token_ids, dtype=np.uint32))
        kept[:, : self.prefix] = False
        return kept


@dataclass(frozen=True)
class Block:
    """A batch of sequences, and which of its rows belong to one bucket.

    Attributes:
        tokens: uint32 [n, context].
        sequence, position: int64 [rows] of the block's rows in harvest order; sequence counts from
            the split's first.
        flat: int64 [rows], their places in tokens.reshape(-1).
    """

    tokens: np.ndarray
    sequence: np.ndarray
    position: np.ndarray
    flat: np.ndarray

    @property
    def token(self) -> np.ndarray:
        """uint32 [rows], the rows' token ids."""
        return self.tokens.reshape(-1)[self.flat]


@dataclass(frozen=True)
class RowRange:
    """Rows [start, stop) and the sequences [first, last) that they are in.

    This is all that is sent to a worker; it counts the rest itself.

    Attributes:
        row: number of the first row of sequence `first`.
    """

    start: int
    stop: int
    first: int
    last: int
    row: int

    def blocks(self, sequences: Any, mask: Mask, batch_sequences: int) -> Iterator[Block]:
        """The part's rows as batches of whole sequences, cut the same way every time.

        A sequence on a bucket's border is in both buckets' parts, each with its own rows of it.
        """
        row = self.row
        for begin in range(self.first, self.last, batch_sequences):
            tokens = sequences[begin : min(begin + batch_sequences, self.last)]
            every = np.flatnonzero(mask.kept(tokens).reshape(-1))
            flat = every[max(0, self.start - row) : self.stop - row]
            row += len(every)
            yield Block(tokens, begin + flat // tokens.shape[1], flat % tokens.shape[1], flat)


class Plan:
    """The rows of a token store's split under a mask, up to a number of rows."""

    def __init__(self, sequences: Any, mask: Mask, rows: int | None = None, bucket_rows: int = 1):
        """Counts every sequence's rows, reading only as many sequences as the rows need.

        Args:
            sequences: [n, context] unsigned ids, sliceable.
            mask: what is dropped.
            rows: rows to harvest; by default all.
            bucket_rows: `rows` is rounded up to a multiple of this while there is text.

        Raises:
            ValueError: there are fewer rows than asked for, or none.
        """
        counts: list[np.ndarray] = []
        total, whole = 0, None if rows is None else -(-rows // bucket_rows) * bucket_rows
        step = max(1, _SCAN_TOKENS // sequences.shape[1])
        for start in range(0, len(sequences), step):
            counts.append(mask.kept(sequences[start : start + step]).sum(axis=1))
            total += int(counts[-1].sum())
            if whole is not None and total >= whole:
                break
        if total == 0 or (rows is not None and rows > total):
            raise ValueError(
                f"rows must be at most {total:,}, which is what {len(sequences):,} sequences give, "
                f"got {rows}; tokenize more text"
            )
        self.rows = total if whole is None else min(whole, total)
        self._first_row = np.concatenate([[0], np.cumsum(np.concatenate(counts), dtype=np.int64)])

    @property
    def n_sequences(self) -> int:
        """Sequences that give the rows."""
        return self.part(0, self.rows).last

    def part(self, start: int, stop: int) -> RowRange:
        """Rows [start, stop) with the sequences that hold them."""
        first = int(np.searchsorted(self._first_row, start, side="right")) - 1
        last = int(np.searchsorted(self._first_row, stop, side="left"))
        return RowRange(start, stop, first, last, int(self._first_row[first]))
