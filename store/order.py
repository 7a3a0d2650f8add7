"""The order in which a stream reads a store: pure arithmetic, no bytes.

Every epoch permutes the buckets, takes them in groups of `interleave`, and permutes the chunks of
each group: a batch mixes chunks of several buckets, and each chunk's rows were already permuted
over their bucket when written. Nothing is held but the order of one group, so a store of billions
of rows costs no more than a small one. docs/format.md states the rule.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .shuffle import BUCKETS, CHUNKS, permutation

INTERLEAVE = 8
"""Buckets whose chunks are mixed, unless told otherwise."""


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of one chunk."""

    bucket: int
    """Index into the list of buckets given to `Order`."""
    chunk: int
    """Chunk within the bucket."""
    first: int
    """First row within the chunk."""
    rows: int
    whole: bool
    """Whether these are all rows of the chunk."""


@dataclass(frozen=True)
class _Group:
    """The chunks of a few buckets in reading order."""

    bucket: np.ndarray
    chunk: np.ndarray
    rows: np.ndarray
    stops: np.ndarray
    """Cumulative rows."""


class Order:
    """Reading order over all epochs, as one endless sequence of rows.

    Args:
        bucket_rows: rows of every bucket, all positive.
        chunk_rows: rows per chunk; a bucket's last chunk may be short.
        seed: of the permutations.
        interleave: buckets per group.
    """

    def __init__(self, bucket_rows: list[int], chunk_rows: int, seed: int, interleave: int):
        self.rows = sum(bucket_rows)
        self._bucket_rows = np.asarray(bucket_rows, dtype=np.int64)
        self._chunk_rows, self._seed, self._interleave = chunk_rows, seed, interleave
        self._epoch = lru_cache(maxsize=4)(self._make_epoch)
        self._group = lru_cache(maxsize=8)(self._make_group)

    def pieces(self, start: int, n: int) -> list[Piece]:
        """Rows [start, start + n) of the endless sequence; row r of epoch e is number e·rows +
        r."""
        pieces = []
        while n > 0:
            epoch, offset = divmod(start, self.rows)
            _, stops = self._epoch(epoch)
            group = int(np.searchsorted(stops, offset, side="right"))
            begin = int(stops[group - 1]) if group else 0
            found = self._pieces_of_group(self._group(epoch, group), offset - begin, n)
            pieces += found
            taken = sum(piece.rows for piece in found)
            start, n = start + taken, n - taken
        return pieces

    def _pieces_of_group(self, group: _Group, offset: int, n: int) -> list[Piece]:
        """Up to n rows from row `offset` of a group, ending where it ends."""
        pieces = []
        at = int(np.searchsorted(group.stops, offset, side="right"))
        while n > 0 and at < len(group.stops):
            rows = int(group.rows[at])
            first = offset - (int(group.stops[at]) - rows)
            take = min(rows - first, n)
            pieces.append(
                Piece(int(group.bucket[at]), int(group.chunk[at]), first, take, take == rows)
            )
            offset, n, at = offset + take, n - take, at + 1
        return pieces

    def _make_epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Bucket order of an epoch, and the cumulative rows of its groups."""
        order = permutation(len(self._bucket_rows), self._seed, BUCKETS, epoch)
        starts = np.arange(0, len(order), self._interleave)
        return order, np.cumsum(np.add.reduceat(self._bucket_rows[order], starts))

    def _make_group(self, epoch: int, group: int) -> _Group:
        """Chunk order of a group."""
        order, _ = self._epoch(epoch)
        members = order[group * self._interleave : (group + 1) * self._interleave]
        counts = -(-self._bucket_rows[members] // self._chunk_rows)
        bucket = np.repeat(members, counts)
        chunk = np.concatenate([np.arange(count) for count in counts])
        rows = np.minimum(self._bucket_rows[bucket] - chunk * self._chunk_rows, self._chunk_rows)
        shuffled = permutation(len(chunk), self._seed, CHUNKS, epoch, group)
        bucket, chunk, rows = bucket[shuffled], chunk[shuffled], rows[shuffled]
        return _Group(bucket, chunk, rows, np.cumsum(rows))
