"""The order of rows by the letter of docs/format.md, in plain Python: no chunks, no caches.

Shares only numpy's Philox with the code under test.
"""

import numpy as np


def permutation(n: int, seed: int, purpose: int, a: int = 0, b: int = 0) -> list[int]:
    """Stable sort of 0 … n-1 by Philox4x64-10's raw output, key (seed, purpose), counter (0, a, b,
    0)."""
    generator = np.random.Philox(
        key=np.array([seed, purpose], dtype=np.uint64),
        counter=np.array([0, a, b, 0], dtype=np.uint64),
    )
    keys = [int(generator.random_raw()) for _ in range(n)]
    return sorted(range(n), key=lambda i: keys[i])


def stored_rows(n: int, seed: int, bucket: int) -> list[int]:
    """Place -> number of the appended row that stands there, for a bucket of n rows."""
    places = permutation(n, seed, 1, bucket)
    standing = [-1] * n
    for appended, place in enumerate(places):
        standing[place] = appended
    return standing


def window_rows(
    labels: list[tuple[int, int]], seed: int, shuffle_rows: int, epoch: int
) -> list[int]:
    """Numbers of the rows of an epoch that is shuffled only in windows, in reading order.

    Args:
        labels: (sequence, position) of every row.
    """
    rows = sorted(range(len(labels)), key=lambda row: labels[row])
    found: list[int] = []
    for number, first in enumerate(range(0, len(rows), shuffle_rows)):
        window = rows[first : first + shuffle_rows]
        found += [window[i] for i in permutation(len(window), seed, 5, epoch, number)]
    return found


def epoch_rows(
    bucket_rows: list[int],
    chunk_rows: int,
    seed: int,
    interleave: int,
    epoch: int,
    stripe_rows: int = 64,
) -> list[tuple[int, int]]:
    """(bucket, row within it) of every row of an epoch, in reading order."""
    buckets = permutation(len(bucket_rows), seed, 2, epoch)
    rows: list[tuple[int, int]] = []
    for i in range(0, len(buckets), interleave):
        chunks = {
            bucket: [
                [(bucket, row) for row in range(first, min(first + chunk_rows, total))]
                for first in range(0, total, chunk_rows)
            ]
            for bucket in buckets[i : i + interleave]
            for total in [bucket_rows[bucket]]
        }
        orders = {b: permutation(len(c), seed, 3, epoch, b) for b, c in chunks.items()}
        for step in range(max(map(len, chunks.values()))):
            now = [chunks[b][order[step]] for b, order in orders.items() if step < len(order)]
            for first in range(0, max(map(len, now)), stripe_rows):
                for chunk in now:
                    rows += chunk[first : first + stripe_rows]
    return rows
