"""The order in which a stream reads a store: pure arithmetic, no bytes.

Every epoch permutes the buckets and takes them in groups of `interleave`. Within a group, step i
takes one chunk of every bucket, in a permutation of that bucket's chunks, and deals their rows out
in stripes. So a batch of any size mixes rows of all buckets of a group; and the rows of a chunk
come from the whole bucket, because they were permuted when written. Only the order of one group is
held in memory, so a store of billions of rows needs no more memory than a small one. docs/format.md
states the rule.

`WindowOrder` is for studies that compare this order with less mixing, or with perfect mixing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from ...arguments import whole
from ..format.permutations import BUCKETS, CHUNKS, WINDOW, permutation

SEEDS = 2**64
"""Seeds are below this."""

INTERLEAVE = 16
"""Default number of buckets whose rows are mixed."""

STRIPE_ROWS = 64
"""Consecutive rows of one chunk that stay together: enough to copy fast, few enough that 1,024 rows
mix 16 buckets."""


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


class Stripe(NamedTuple):
    """Consecutive rows of one chunk, and where they go in a batch."""

    at: int
    """Row of the batch where the first row goes."""
    first: int
    """First row within the chunk."""
    rows: int


@dataclass(frozen=True)
class _Group:
    """Buckets that are read together, step by step."""

    members: np.ndarray
    """Indices of its buckets."""
    chunks: list[np.ndarray]
    """Order of the chunks of each bucket."""
    stops: np.ndarray
    """Cumulative rows of the steps."""


@dataclass(frozen=True)
class _Step:
    """One chunk of every bucket of a group, as stripes in reading order."""

    bucket: np.ndarray
    chunk: np.ndarray
    first: np.ndarray
    rows: np.ndarray
    stops: np.ndarray
    """Cumulative rows of the stripes."""


class Order:
    """Reading order over all epochs, as one endless sequence of rows.

    Args:
        bucket_rows: rows of every bucket, all positive.
        chunk_rows: rows per chunk; a bucket's last chunk may be short.
        seed: of the permutations.
        interleave: buckets per group.
        stripe_rows: rows per stripe.

    Attributes:
        identity: entries that a stream's state must share to continue in this order.
    """

    def __init__(
        self,
        bucket_rows: list[int],
        chunk_rows: int,
        seed: int,
        interleave: int = INTERLEAVE,
        stripe_rows: int = STRIPE_ROWS,
    ):
        seed, interleave = whole("seed", seed, below=SEEDS), whole("interleave", interleave, 1)
        self.rows = sum(bucket_rows)
        self.chunk_rows = chunk_rows
        self.identity = {"seed": seed, "store_rows": self.rows, "interleave": interleave}
        self._bucket_rows = np.asarray(bucket_rows, dtype=np.int64)
        self._seed, self._interleave, self._stripe_rows = seed, interleave, stripe_rows
        self._epoch = lru_cache(maxsize=4)(self._make_epoch)
        self._group = lru_cache(maxsize=4)(self._make_group)
        self._step = lru_cache(maxsize=16)(self._make_step)

    def pieces(self, start: int, n: int) -> list[Piece]:
        """Rows [start, start + n) of the endless sequence, where row r of epoch e has number
        e·rows + r."""
        pieces: list[Piece] = []
        while n > 0:
            epoch, offset = divmod(start, self.rows)
            number, offset = _find(self._epoch(epoch)[1], offset)
            step, offset = _find(self._group(epoch, number).stops, offset)
            taken = _take(pieces, self._step(epoch, number, step), offset, n)
            start, n = start + taken, n - taken
        return pieces

    def chunks_in_use(self, step_rows: int, prefetch: int) -> int:
        """How many chunks to keep, so that a chunk that several prepared batches share is decoded
        once."""
        window_rows = self._interleave * self.chunk_rows
        windows = min(prefetch + 2, -(-(prefetch + 1) * step_rows // window_rows) + 1)
        return self._interleave * windows

    def _make_epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Bucket order of an epoch, and the cumulative rows of its groups."""
        order = permutation(len(self._bucket_rows), self._seed, BUCKETS, epoch)
        starts = np.arange(0, len(order), self._interleave)
        return order, np.cumsum(np.add.reduceat(self._bucket_rows[order], starts))

    def _make_group(self, epoch: int, number: int) -> _Group:
        """Chunk orders and step sizes of a group."""
        order, _ = self._epoch(epoch)
        members = order[number * self._interleave : (number + 1) * self._interleave]
        counts = -(-self._bucket_rows[members] // self.chunk_rows)
        chunks = [
            permutation(int(count), self._seed, CHUNKS, epoch, int(bucket))
            for bucket, count in zip(members, counts, strict=True)
        ]
        rows = np.zeros(int(counts.max()), dtype=np.int64)
        for bucket, order_of_chunks in zip(members, chunks, strict=True):
            rows[: len(order_of_chunks)] += self._rows_of(bucket, order_of_chunks)
        return _Group(members, chunks, np.cumsum(rows))

    def _make_step(self, epoch: int, number: int, step: int) -> _Step:
        """Stripe 0 of every chunk of the step, then stripe 1 of every chunk, …"""
        group = self._group(epoch, number)
        present = [i for i, chunks in enumerate(group.chunks) if step < len(chunks)]
        bucket = group.members[present]
        chunk = np.array([group.chunks[i][step] for i in present])
        rows = self._rows_of(bucket, chunk)
        first = np.arange(0, int(rows.max()), self._stripe_rows)
        size = np.minimum(rows[None, :] - first[:, None], self._stripe_rows)
        stripe, which = np.nonzero(size > 0)
        taken = size[stripe, which]
        return _Step(bucket[which], chunk[which], first[stripe], taken, np.cumsum(taken))

    def _rows_of(self, bucket: np.ndarray, chunk: np.ndarray) -> np.ndarray:
        """Number of rows of each of these chunks."""
        return np.minimum(self._bucket_rows[bucket] - chunk * self.chunk_rows, self.chunk_rows)


class WindowOrder:
    """Reading order that follows the sequences and shuffles within windows of `shuffle_rows`.

    1 is no shuffle, all rows or more a perfect shuffle. Every epoch has the same windows in the
    same order, and permutes the rows of each. A batch takes rows from anywhere in a bucket, so all
    chunks are kept once they are decoded. The methods are those of `Order`.

    Args:
        bucket_rows, chunk_rows: as of `Order`.
        seed: of the permutations.
        shuffle_rows: rows of a window; the last may be short.
        rows: the store's row numbers by sequence and position.
    """

    def __init__(
        self,
        bucket_rows: list[int],
        chunk_rows: int,
        seed: int,
        shuffle_rows: int,
        rows: Int64[np.ndarray, "rows"],
    ):
        seed, shuffle_rows = (
            whole("seed", seed, below=SEEDS),
            whole("shuffle_rows", shuffle_rows, 1),
        )
        self.rows, self.chunk_rows = len(rows), chunk_rows
        self.identity = {"seed": seed, "store_rows": self.rows, "shuffle_rows": shuffle_rows}
        self._by_sequence, self._seed = rows, seed
        self._window_rows = min(shuffle_rows, self.rows)
        self._stops = np.cumsum(bucket_rows)
        self._window = lru_cache(maxsize=4)(self._make_window)

    def pieces(self, start: int, n: int) -> list[Piece]:
        """See `Order.pieces`; every piece is one row."""
        parts: list[np.ndarray] = []
        while n > 0:
            epoch, offset = divmod(start, self.rows)
            if self._window_rows == 1:  # nothing to permute
                part = self._by_sequence[offset : offset + n]
            else:
                number, offset = divmod(offset, self._window_rows)
                part = self._window(epoch, number)[offset : offset + n]
            parts.append(part)
            start, n = start + len(part), n - len(part)
        rows = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
        bucket = np.searchsorted(self._stops, rows, side="right")
        row = rows - np.concatenate([[0], self._stops])[bucket]
        chunk, first = divmod(row, self.chunk_rows)
        places = np.stack([bucket, chunk, first], axis=1).tolist()
        return [Piece(b, c, f, 1) for b, c, f in places]

    def chunks_in_use(self, _step_rows: int, _prefetch: int) -> int:
        """All chunks; see `Order.chunks_in_use`."""
        bucket_rows = np.diff(self._stops, prepend=0)
        return int((-(-bucket_rows // self.chunk_rows)).sum())

    def _make_window(self, epoch: int, number: int) -> np.ndarray:
        """The rows of a window in the order of an epoch."""
        first = number * self._window_rows
        rows = self._by_sequence[first : first + self._window_rows]
        return rows[permutation(len(rows), self._seed, WINDOW, epoch, number)]


def by_chunk(runs: Iterable[tuple[int, int]], chunk_rows: int) -> dict[int, list[Stripe]]:
    """Runs of an array's rows, cut at the borders of its chunks.

    An array of a joined store may have larger chunks than the order uses.

    Args:
        runs: (first row, number of rows) of each run; the runs fill a batch one after the other.
        chunk_rows: rows per chunk of the array.

    Returns:
        Chunk -> which of its rows go where in the batch.
    """
    found: dict[int, list[Stripe]] = {}
    at = 0
    for start, n in runs:
        row, stop = start, start + n
        while row < stop:
            chunk, first = divmod(row, chunk_rows)
            rows = min(stop - row, chunk_rows - first)
            found.setdefault(chunk, []).append(Stripe(at, first, rows))
            at, row = at + rows, row + rows
    return found


def _find(stops: np.ndarray, offset: int) -> tuple[int, int]:
    """The part into which an offset falls, and the offset within the part; `stops` are the parts'
    cumulative sizes."""
    at = int(np.searchsorted(stops, offset, side="right"))
    return at, offset - (int(stops[at - 1]) if at else 0)


def _take(pieces: list[Piece], step: _Step, offset: int, n: int) -> int:
    """Appends up to n rows from row `offset` of a step; returns how many."""
    at, skip = _find(step.stops, offset)
    taken = 0
    while taken < n and at < len(step.stops):
        rows = min(int(step.rows[at]) - skip, n - taken)
        first = int(step.first[at]) + skip
        pieces.append(Piece(int(step.bucket[at]), int(step.chunk[at]), first, rows))
        taken, at, skip = taken + rows, at + 1, 0
    return taken


def row_numbers(
    pieces: Iterable[Piece], firsts: Int64[np.ndarray, "buckets"], chunk_rows: int
) -> Int64[np.ndarray, "rows"]:
    """The store's row numbers of pieces, in their order; `firsts` is each bucket's first row."""
    return np.concatenate(
        [
            firsts[piece.bucket] + piece.chunk * chunk_rows + piece.first + np.arange(piece.rows)
            for piece in pieces
        ]
    )
