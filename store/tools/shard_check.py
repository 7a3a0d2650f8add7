"""Checks an array's shards in one bucket: decodes every chunk and adds up its rows.

Owns the checks of shards and chunks. A chunk's own checksum proves little, since a changed chunk
can have a new one. So the checksums of the chunks must give the one in the commit record, and the
rows must add up to its sums.
"""

from collections.abc import Callable, Iterator

import google_crc32c
import numpy as np

from ..format.arrays import ArrayLayout, DamagedStoreError, ShardRecord
from ..format.chunks.codecs import CRC_BYTES
from ..format.chunks.shard_index import encode_index
from ..format.commits import Commit
from ..format.spec import StoreSpec
from ..format.sums import Summation
from ..place.local import UnsafeObjectError
from ..place.location import Location
from ..read.array_reader import ArrayReader

_BLOCK_BYTES = 2**26
"""Bytes read at once; at least one chunk."""


def check_array(
    location: Location,
    spec: StoreSpec,
    layout: ArrayLayout,
    commit: Commit,
    advance: Callable[[int], None],
) -> list[str]:
    """Problems of an array in one bucket, a line each.

    Args:
        advance: called with the bytes of each object when it is checked.
    """
    problems, name = [], layout.path.rpartition("/")[2]
    tally = None
    if layout.width is not None:
        tally = Summation(layout.width, layout.codec.dtype, commit.sums[name].scale)
    for record in commit.shards[layout.path]:
        first = record.shard * layout.shard_rows - commit.bucket * spec.bucket_rows
        rows = max(0, min(layout.shard_rows, commit.rows - first))
        found, n_bytes = _check_shard(location, layout, record, rows, tally)
        problems += found
        advance(n_bytes)
    if tally is not None and not problems:
        sums, committed = tally.result(), commit.sums[name]
        if not np.isfinite(sums.total).all():
            problems.append(f"{name}: bucket {commit.bucket}: a value is not finite")
        elif sums.squares != committed.squares or not np.array_equal(sums.total, committed.total):
            problems.append(
                f"{name}: bucket {commit.bucket}: its rows do not add up to the sums in its commit"
                " record"
            )
    return problems


def _check_shard(
    location: Location, layout: ArrayLayout, record: ShardRecord, rows: int, tally: Summation | None
) -> tuple[list[str], int]:
    """Problems of a shard that should hold `rows` rows, and the bytes read; adds up its rows."""
    key = layout.shard_key(record.shard)
    where = f"{layout.path.rpartition('/')[2]}: shard {record.shard} ({location.url}/{key})"
    try:
        n_bytes = location.size(key)
    except FileNotFoundError:
        return [f"{where}: the object is missing"], 0
    except UnsafeObjectError as error:
        return [f"{where}: {error}"], 0
    if n_bytes != record.n_bytes:
        return [f"{where}: it has {n_bytes} bytes, committed are {record.n_bytes}"], n_bytes
    reader = ArrayReader(location, layout, lambda _shard: n_bytes)
    try:
        index = reader.index(record.shard)
    except DamagedStoreError as error:
        return [str(error)], n_bytes
    held = -(-rows // layout.chunk_rows)
    if len(index) != held:
        return [f"{where}: it has {len(index)} chunks, committed are {held}"], n_bytes
    chunks = _chunks(location, key, index)
    problems, crc = _check_chunks(reader, record.shard, chunks, rows, tally)
    places = encode_index(index[:, 1].tolist(), layout.shard_chunks)[:-CRC_BYTES]
    crc = google_crc32c.extend(crc, places)
    if not problems and crc != record.crc32c:
        other = f"{where}: it is another shard: its crc32c is {crc:08x}, committed is"
        problems = [f"{other} {record.crc32c:08x}"]
    return problems, n_bytes


def _check_chunks(
    reader: ArrayReader,
    shard: int,
    chunks: Iterator[np.ndarray],
    rows: int,
    tally: Summation | None,
) -> tuple[list[str], int]:
    """Problems of a shard's chunks, and the crc32c of the chunks' crc32c; adds up their rows."""
    layout, problems, crc = reader.layout, [], 0
    buffer = layout.empty(layout.chunk_rows)
    for inner, encoded in enumerate(chunks):
        crc = google_crc32c.extend(crc, encoded[-CRC_BYTES:])
        try:
            reader.decode(shard * layout.shard_chunks + inner, encoded, buffer)
        except DamagedStoreError as error:
            problems.append(str(error))
            continue
        if tally is not None:
            tally.add(tally.of(buffer[: rows - inner * layout.chunk_rows]))
    return problems, crc


def _chunks(location: Location, key: str, index: np.ndarray) -> Iterator[np.ndarray]:
    """An object's encoded chunks, several per read: on an object store each read waits for an
    answer."""
    at, ends = 0, index.sum(axis=1)
    while at < len(index):
        start = int(index[at, 0])
        count = max(1, int(np.searchsorted(ends[at:], start + _BLOCK_BYTES, side="right")))
        block = np.frombuffer(location.read(key, start, int(ends[at + count - 1])), np.uint8)
        for offset, length in (index[at : at + count] - (start, 0)).tolist():
            yield block[offset : offset + length]
        at += count
