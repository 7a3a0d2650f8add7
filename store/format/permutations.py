"""Permutations that are the same on every machine and with every version of numpy.

numpy's `Generator.permutation` may change between versions; the raw output of a bit generator may
not. So a permutation of n is the stable argsort of the first n raw 64-bit outputs of Philox4x64-10
with key (seed, purpose) and counter (0, a, b, 0). docs/format.md makes this rule normative.
"""

import numpy as np
from jaxtyping import Int64

ROWS, BUCKETS, CHUNKS, SEQUENCES, WINDOW = 1, 2, 3, 4, 5
"""Purposes: rows of a bucket; buckets of an epoch; chunks of a bucket in an epoch; sequences of a
split of a token store; rows of a window of `shuffle_rows`."""


def permutation(n: int, seed: int, purpose: int, a: int = 0, b: int = 0) -> Int64[np.ndarray, "n"]:
    """A permutation of range(n), int64 [n]; a pure function of its arguments.

    Args:
        n: length.
        seed: the user's seed, 0 <= seed < 2**64.
        purpose: one of the constants above, so that no two uses share a permutation.
        a, b: indices within the purpose (bucket, epoch, …).
    """
    key = np.array([seed, purpose], dtype=np.uint64)
    counter = np.array([0, a, b, 0], dtype=np.uint64)
    keys = np.random.Philox(key=key, counter=counter).random_raw(n)
    return np.argsort(keys, kind="stable")
