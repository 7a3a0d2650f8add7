"""Writing a split of a token store: its array's document, its shards and their digest.

Owns the conversion of token ids to uint32. `tokens` writes the root document, which lists the
shards.
"""

import hashlib
import threading
from concurrent.futures import Executor
from typing import Any

import numpy as np

from ..format.arrays import ArrayLayout, write_shard
from ..format.spec import encode_json
from ..place.location import Location


def write_split(
    location: Location, layout: ArrayLayout, sequences: Any, pool: Executor
) -> dict[str, Any]:
    """Writes a split's array.

    Args:
        location: of the token store.
        layout: of the array `<split>` [n, context].
        sequences: [n, context] integers, sliceable by rows.
        pool: threads that encode chunks.

    Returns:
        The split's entry in the root document: number of sequences, sha256 of the ids, shards.

    Raises:
        ValueError: a token id is not in 0 … 2^32 - 1.
    """
    document = f"{layout.path}/zarr.json"
    location.sweep([document, *map(layout.shard_key, range(layout.n_shards))])
    location.write(document, [encode_json(layout.metadata())])
    tally, records, one_at_a_time = _Digest(), [], threading.Lock()
    for shard in range(layout.n_shards):
        first = shard * layout.shard_rows
        rows = min(layout.shard_rows, layout.rows - first)

        def fetch(start: int, stop: int, first: int = first) -> np.ndarray:
            with one_at_a_time:  # `sequences` may be of a type that is not thread-safe
                return _token_ids(sequences[first + start : first + stop])

        record = write_shard(location, layout, shard, rows, fetch, pool, tally)
        records.append([record.shard, record.n_bytes, record.crc32c])
    return {"sequences": layout.rows, "sha256": tally.sha256.hexdigest(), "shards": records}


class _Digest:
    """sha256 of token ids, row by row; a `ChunkTally`."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def of(self, stored: np.ndarray) -> np.ndarray:
        return stored

    def add(self, part: np.ndarray) -> None:
        self.sha256.update(part.data)


def _token_ids(block: Any) -> np.ndarray:
    """Rows as contiguous uint32."""
    array = np.asarray(block)
    if array.size and (int(array.min()) < 0 or int(array.max()) >= 2**32):
        raise ValueError(f"token ids must be in 0 … 2^32 - 1, got {array.min()} … {array.max()}")
    return np.ascontiguousarray(array, dtype=np.uint32)
