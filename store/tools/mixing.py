"""How well the rows of a store are mixed in the batches of a stream.

Reads only labels: those of some batches, and those of some buckets to know what a perfect shuffle
would give.
"""

from dataclasses import dataclass

import numpy as np

from ..read.reader import ActivationStore

COUNTED_ROWS = 2**24
"""Rows whose sequences are counted for the perfect shuffle; of a larger store, some buckets are."""


@dataclass(frozen=True)
class Mixing:
    """How often two rows of a batch come from the same sequence, beside a perfect shuffle."""

    measured: float
    """Share of the row pairs in a batch that are of the same sequence, averaged over batches."""
    perfect: float
    """The same share for batches drawn at random from the whole store."""
    batches: int
    batch_rows: int

    def line(self) -> str:
        """The figures as one line."""
        if not (self.measured or self.perfect):
            return f"mixing: no two rows share a sequence ({self.batches} batches)"
        ratio = self.measured / self.perfect if self.perfect else float("inf")
        return (
            f"mixing: {self.measured:.3g} of the row pairs in a batch of {self.batch_rows:,}"
            f" share a sequence, {self.perfect:.3g} in a perfect shuffle (ratio {ratio:.2f},"
            f" {self.batches} batches)"
        )


def mixing(
    store: ActivationStore,
    batch_rows: int = 4096,
    batches: int = 16,
    seed: int = 0,
    counted_rows: int = COUNTED_ROWS,
    shuffle_rows: int | None = None,
) -> Mixing:
    """Measures the mixing of the batches that a stream of this store gives.

    For a batch of B rows with n_s rows of sequence s, the share of pairs is Σ n_s(n_s−1) /
    (B(B−1)); a perfect shuffle of N rows with N_s of sequence s expects Σ N_s(N_s−1) / (N(N−1)).

    Args:
        batch_rows, seed, shuffle_rows: of the stream.
        batches: number of batches, from the stream's start.
        counted_rows: the second sum is taken over buckets with about so many rows, spread evenly
            over the store, and scaled up. This assumes that a sequence is in one bucket, which is
            false only at the borders of buckets. If all buckets are counted, nothing is assumed.
    """
    batch_rows = min(batch_rows, store.rows)
    shares = []
    for batch in range(min(batches, store.rows // batch_rows)):
        state = {"seed": seed, "store_rows": store.rows}
        state |= {} if shuffle_rows is None else {"shuffle_rows": shuffle_rows}
        rows = store.rows_of(state | {"row": batch * batch_rows}, batch_rows)
        shares.append(_pairs(_counts(store, rows)[1]) / max(batch_rows * (batch_rows - 1), 1))
    perfect = _expected_share(store, counted_rows)
    return Mixing(float(np.mean(shares)), perfect, len(shares), batch_rows)


def _expected_share(store: ActivationStore, counted_rows: int) -> float:
    """Σ N_s(N_s−1) / (N(N−1)), estimated from some buckets."""
    sizes = np.array([commit.rows for commit in store.commits])
    starts = np.cumsum(sizes) - sizes
    wanted = max(1, min(len(sizes), counted_rows // int(sizes.max())))
    chosen = np.unique(np.linspace(0, len(sizes) - 1, wanted).round().astype(int))
    found = [
        _counts(store, np.arange(start, start + size))
        for start, size in zip(starts[chosen].tolist(), sizes[chosen].tolist(), strict=True)
    ]
    _, place = np.unique(np.concatenate([sequences for sequences, _ in found]), return_inverse=True)
    counts = np.bincount(place, np.concatenate([counts for _, counts in found]))
    return _pairs(counts) / int(sizes[chosen].sum()) / max(store.rows - 1, 1)


def _counts(store: ActivationStore, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sequences of these rows, each once, and the number of rows of each."""
    rows = np.sort(rows)
    ranges = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
    found = [store.labels(int(part[0]), int(part[-1]) + 1).sequence for part in ranges]
    return np.unique(np.concatenate(found), return_counts=True)


def _pairs(counts: np.ndarray) -> float:
    """Σ n(n−1): ordered pairs of different rows of the same sequence."""
    n = counts.astype(np.float64)
    return float((n * (n - 1)).sum())
