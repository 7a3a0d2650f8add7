"""The index at the end of a shard object: where each of its chunks is.

Owns its bytes: offset and length per chunk (uint64, little endian), all ones for a chunk that is
not there, with the crc32c behind. It is read from places that others may write to: no offset or
length is used before it agrees with the object's size.
"""

import google_crc32c
import numpy as np

from .codecs import CRC_BYTES

MISSING = 2**64 - 1
"""Offset and length of a chunk that is not there."""


def index_bytes(n_chunks: int) -> int:
    """Size of an index of so many chunk places."""
    return 16 * n_chunks + CRC_BYTES


def encode_index(lengths: list[int], n_chunks: int) -> bytes:
    """The index of chunks that stand one after the other; places behind them are empty."""
    index = np.full((n_chunks, 2), MISSING, dtype="<u8")
    ends = np.cumsum(lengths, dtype=np.int64)
    index[: len(lengths), 0], index[: len(lengths), 1] = ends - lengths, lengths
    data = index.tobytes()
    return data + google_crc32c.value(data).to_bytes(CRC_BYTES, "little")


def decode_index(tail: bytes, object_bytes: int, max_chunk_bytes: int) -> np.ndarray:
    """Offset and length of the chunks that are there, int64 [n, 2], of an index in an object of
    this size. They stand one after the other, from the object's start to the index.

    Raises:
        ValueError: it is damaged, or is none of this object.
    """
    data, stored = tail[:-CRC_BYTES], int.from_bytes(tail[-CRC_BYTES:], "little")
    if google_crc32c.value(data) != stored:
        raise ValueError("the index is damaged: its crc32c is wrong")
    index = np.frombuffer(data, dtype="<u8").reshape(-1, 2)
    count = int((index != MISSING).any(axis=1).sum())
    if (index[count:] != MISSING).any():
        raise ValueError("the index is damaged: a chunk is missing before others")
    if (index[:count, 1] > max_chunk_bytes).any():
        longest = int(index[:count, 1].max())
        raise ValueError(
            f"the index is damaged: a chunk must be at most {max_chunk_bytes} bytes, got {longest}"
        )
    found = index[:count].astype(np.int64)
    ends = np.cumsum(found[:, 1])
    if not np.array_equal(found[:, 0], ends - found[:, 1]) or found[:, 1].sum() != (
        object_bytes - len(tail)
    ):
        raise ValueError("the index is damaged: its chunks do not fill the object one by one")
    return found
