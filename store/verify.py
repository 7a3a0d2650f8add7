"""Checking every byte of a store against its commits.

Owns the walk over metadata, commit records and shard objects, and the naming of what is damaged. An
object is read once; only where a checksum is wrong are its chunks decoded, to say which ones are
lost.
"""

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import google_crc32c
import numpy as np

from .arrays import MISSING, ArrayLayout, ArrayReader, DamagedStoreError, ShardRecord
from .codecs import CRC_BYTES
from .commits import Commit, commit_key, committed_buckets, is_unchanged, read_commit
from .location import Location, StorageOptions, locate
from .root import Root, read_root
from .spec import StoreSpec, crc32c_hex, group_document

_BLOCK_BYTES = 2**26


@dataclass
class Report:
    """What `verify` found."""

    problems: list[str] = field(default_factory=list)
    """One line per damaged object or chunk; empty for a sound store."""
    damaged: set[int] = field(default_factory=set)
    """Committed buckets whose record or shards are not what was committed."""
    buckets: int = 0
    """Committed buckets."""
    n_buckets: int = 0
    """Buckets of the complete store."""
    checked_bytes: int = 0
    """Bytes of shard objects read."""


def verify(
    url: str | os.PathLike[str],
    storage_options: StorageOptions = None,
    *,
    threads: int = 2,
    advance: Callable[[int], None] = lambda _bytes: None,
) -> Report:
    """Reads every committed object and checks it.

    Args:
        threads: objects read side by side.
        advance: called with the bytes of each object when it is done.

    Raises:
        FileNotFoundError, ValueError: there is no store, or its root document is unusable.
    """
    location = locate(url, storage_options)
    try:
        root = read_root(location)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no activation store at {location.url}") from error
    spec = root.spec
    report = Report(n_buckets=spec.n_buckets)
    layouts = {
        layout.path: layout
        for layout in [*spec.site_layouts().values(), *spec.label_layouts().values()]
    }
    report.problems += _metadata_problems(location, root)
    commits = list(_readable_commits(location, spec, report))
    report.problems += _unexplained(location, spec, layouts)
    work = [
        (commit, layouts[path], record)
        for commit in commits
        for path, records in commit.shards.items()
        for record in records
    ]

    def check(item: tuple[Commit, ArrayLayout, ShardRecord]) -> tuple[int, list[str], int]:
        commit, layout, record = item
        n_chunks = _chunks(spec, layout, record, commit)
        return commit.bucket, *_check_shard(location, layout, record, n_chunks)

    found: defaultdict[int, list[str]] = defaultdict(list)
    with ThreadPoolExecutor(threads) as pool:
        for bucket, problems, n_bytes in pool.map(check, work):
            found[bucket] += problems
            report.checked_bytes += n_bytes
            advance(n_bytes)
    for commit in commits:
        _judge(location, commit, found[commit.bucket], report)
    return report


def _judge(location: Location, commit: Commit, problems: list[str], report: Report) -> None:
    """Enters the problems of a bucket; not as damage if its commit went meanwhile."""
    if problems and not is_unchanged(location, commit):
        report.problems.append(
            f"bucket {commit.bucket} was written anew meanwhile, because the store grows; verify"
            " again"
        )
    elif problems:
        report.problems += problems
        report.damaged.add(commit.bucket)


def withdraw(
    url: str | os.PathLike[str], buckets: Iterable[int], storage_options: StorageOptions = None
) -> None:
    """Removes the commit records of damaged buckets, so that whoever wrote the store writes them
    again. Readers do not see their sound rows any more."""
    location = locate(url, storage_options)
    for bucket in sorted(buckets):
        location.remove(commit_key(bucket))


def _metadata_problems(location: Location, root: Root) -> Iterator[str]:
    """Documents that plain Zarr would misread; our own reader needs only the root's attributes."""
    if group_document(json.loads(root.data)["attributes"]["scopeworks"]) != root.data:
        yield "zarr.json is not as it was written"
    for key, expected in root.documents.items():
        try:
            found = crc32c_hex(location.read(key))
        except FileNotFoundError:
            yield f"{key} is missing"
            continue
        if found not in root.accepted(key):
            yield f"{key} is damaged: its crc32c is {found}, written was {expected}"


def _readable_commits(location: Location, spec: StoreSpec, report: Report) -> Iterator[Commit]:
    """The sound commit records; the others become problems."""
    for bucket in committed_buckets(location, spec):
        report.buckets += 1
        try:
            commit = read_commit(location, bucket, spec)
        except FileNotFoundError:
            report.problems.append(f"commit of bucket {bucket}: {commit_key(bucket)} is missing")
        except DamagedStoreError as error:
            report.problems.append(str(error))
            report.damaged.add(bucket)
        else:
            data = location.read(commit_key(bucket))
            if group_document(json.loads(data)["attributes"]["scopeworks"]) != data:
                report.problems.append(f"{commit_key(bucket)} is not as it was written")
            yield commit


def _unexplained(
    location: Location, spec: StoreSpec, layouts: dict[str, ArrayLayout]
) -> Iterator[str]:
    """Buckets with shards but without a commit: unfinished, or their record is lost."""
    committed = set(committed_buckets(location, spec))
    if len(committed) == spec.n_buckets:
        return
    for path, layout in layouts.items():
        shards = (int(name) for name in location.children(f"{path}/c") if name.isdecimal())
        buckets = {shard * layout.shard_rows // spec.bucket_rows for shard in shards}
        for bucket in sorted(buckets - committed):
            committed.add(bucket)
            yield (
                f"bucket {bucket} has data but no commit record: it is unfinished, or the record is"
                " lost; run the harvest again"
            )


def _check_shard(
    location: Location, layout: ArrayLayout, record: ShardRecord, n_chunks: int
) -> tuple[list[str], int]:
    """Problems of one object that holds so many chunks, and the bytes read."""
    key = layout.shard_key(record.shard)
    where = f"{layout.path.rpartition('/')[2]}: shard {record.shard} ({location.url}/{key})"
    try:
        n_bytes = location.size(key)
        crc = _checksum(location, layout, key, n_bytes)
    except FileNotFoundError:
        return [f"{where}: the object is missing"], 0
    if n_bytes != record.n_bytes:
        size = f"{where}: it has {n_bytes} bytes, committed are {record.n_bytes}"
        return [size, *_damaged_chunks(location, layout, record, n_chunks)], n_bytes
    if crc is None:
        found = _damaged_chunks(location, layout, record, n_chunks)
        return found or [f"{where}: its bytes are not those of its chunks and index"], n_bytes
    if crc != record.crc32c:
        other = f"{where}: it is another shard: its crc32c is {crc:08x}, committed is"
        return [f"{other} {record.crc32c:08x}"], n_bytes
    return [], n_bytes


def _checksum(location: Location, layout: ArrayLayout, key: str, n_bytes: int) -> int | None:
    """The object's checksum as commits record it; None if a byte of it is damaged."""
    tail = location.read(key, max(0, n_bytes - layout.index_bytes), n_bytes)
    index, stored = tail[:-CRC_BYTES], tail[-CRC_BYTES:]
    if google_crc32c.value(index).to_bytes(CRC_BYTES, "little") != stored:
        return None
    chunks = np.frombuffer(index, dtype="<u8").reshape(-1, 2)
    chunks = chunks[chunks[:, 0] != MISSING].astype(np.int64)
    ends = np.cumsum(chunks[:, 1])
    if not np.array_equal(chunks[1:, 0], ends[:-1]) or ends[-1] != n_bytes - len(tail):
        return None
    crc = at = 0
    while at < len(chunks):
        start = int(chunks[at, 0])
        count = max(1, int(np.searchsorted(ends[at:], start + _BLOCK_BYTES, side="right")))
        block = location.read(key, start, int(ends[at + count - 1]))
        for offset, length in (chunks[at : at + count] - (start, 0)).tolist():
            frame = block[offset : offset + length - CRC_BYTES]
            stored = block[offset + len(frame) : offset + length]
            if google_crc32c.value(frame).to_bytes(CRC_BYTES, "little") != stored:
                return None
            crc = google_crc32c.extend(crc, stored)
        at += count
    return google_crc32c.extend(crc, index)


def _chunks(spec: StoreSpec, layout: ArrayLayout, record: ShardRecord, commit: Commit) -> int:
    """Chunks of a shard that hold committed rows; a bucket may be short because rows were dropped
    or the store has grown."""
    rows = commit.bucket * spec.bucket_rows + commit.rows - record.shard * layout.shard_rows
    return -(-min(rows, layout.shard_rows) // layout.chunk_rows)


def _damaged_chunks(
    location: Location, layout: ArrayLayout, record: ShardRecord, n_chunks: int
) -> list[str]:
    """Which chunks of a damaged object cannot be read; one line if its index cannot."""
    reader = ArrayReader(location, layout, lambda _shard: record.n_bytes)
    buffer, problems = layout.empty(layout.chunk_rows), []
    for inner in range(n_chunks):
        try:
            reader.read_chunk(record.shard * layout.shard_chunks + inner, buffer)
        except DamagedStoreError as error:
            if str(error) not in problems:
                problems.append(str(error))
    return problems
