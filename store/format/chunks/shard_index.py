"""The index at the end of a shard object: where each of its chunks is.

Owns its bytes, all little endian:

    per chunk  offset in the object (uint64), length (uint64); all ones for a missing chunk
    at the end crc32c of the bytes before (uint32)

Others may have written the object, so no offset or length is used before it agrees with the
object's size.
"""

import google_crc32c
import numpy as np

from .codecs import CRC_BYTES

MISSING = 2**64 - 1
"""Offset and length of a missing chunk."""


def index_bytes(n_chunks: int) -> int:
    """Bytes of an index of `n_chunks` entries."""
    return 16 * n_chunks + CRC_BYTES


def encode_index(lengths: list[int], n_chunks: int) -> bytes:
    """The index of chunks that follow one another from the start of the object.

    Args:
        lengths: bytes of the chunks that are there.
        n_chunks: entries of the index; those after the chunks are marked as missing.
    """
    index = np.full((n_chunks, 2), MISSING, dtype="<u8")
    ends = np.cumsum(lengths, dtype=np.int64)
    index[: len(lengths), 0], index[: len(lengths), 1] = ends - lengths, lengths
    data = index.tobytes()
    return data + google_crc32c.value(data).to_bytes(CRC_BYTES, "little")


def decode_index(tail: bytes, object_bytes: int, max_chunk_bytes: int) -> np.ndarray:
    """Offset and length of the chunks that are there: int64 [n, 2].

    Args:
        tail: the index's bytes.
        object_bytes: size of the whole object, which chunks and index must fill without gaps.
        max_chunk_bytes: the most bytes that a chunk can have.

    Raises:
        ValueError: the index is damaged, or does not fit the object.
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
