"""Sealing a bucket: shards first, then the commit, which makes the bucket exist.

Owns the order of events that keeps a committed bucket whole. Two processes may seal one bucket at
once: a scheduler gives up a worker that is alive after all. Both write equal bytes under equal
keys, since a bucket is a pure function of what it is made from; every object is replaced whole; and
nobody ever removes a shard. So whatever is committed is complete, whoever fails in between. Shards
without a commit harm nobody; the next writer of the bucket replaces them.
"""

from collections.abc import Mapping
from concurrent.futures import Executor

import numpy as np

from ..format.arrays import DamagedStoreError
from ..format.commits import Commit, commit_key, is_whole, read_commit, write_commit
from ..format.root import read_root
from ..format.spec import StoreSpec
from ..place.location import Location
from ..place.uploads import sending
from .bucket import BucketWriter
from .saturation import check_saturation


def seal(
    location: Location,
    spec: StoreSpec,
    filling: BucketWriter,
    pool: Executor,
    scales: Mapping[str, np.ndarray] | None,
    sending_bytes: int,
) -> None:
    """Writes and commits a bucket; nothing if it is committed already.

    Args:
        sending_bytes: of shards under way to an object store at once.

    Raises:
        OSError: it could not be written (disk full, upload failed), or another process has written
            it with other rows.
        ValueError: the store has grown, and the bucket is not the short last one any more; or int8
            has cut too many of its values.
    """
    bucket, key = filling.bucket, commit_key(filling.bucket)
    _check_size(location, spec, bucket)
    if whole_commit(location, spec, bucket) is not None:
        return
    location.remove(key)  # of a bucket that the store has outgrown
    location.sweep([*filling.shard_keys(), key])
    with sending(location, sending_bytes) as sink:
        commit = filling.seal(sink, pool, scales)
    check_saturation(commit, spec)
    twin = whole_commit(location, spec, bucket)
    if twin is None:
        write_commit(location, commit)
    elif twin.shards != commit.shards:
        location.remove(key)
        raise OSError(
            f"bucket {bucket} of {location.url} was written by two processes with different"
            " rows; it is not committed; give it to one of them"
        )


def whole_commit(location: Location, spec: StoreSpec, bucket: int) -> Commit | None:
    """The record of a bucket that is committed with all its rows."""
    try:
        commit = read_commit(location, bucket, spec)
    except (FileNotFoundError, DamagedStoreError):
        return None
    return commit if is_whole(commit, spec) else None


def _check_size(location: Location, spec: StoreSpec, bucket: int) -> None:
    """Refuses the short last bucket of a store that another process has made longer meanwhile."""
    start, stop = spec.bucket_range(bucket)
    if stop - start == spec.bucket_rows:
        return
    rows = read_root(location).spec.rows
    if rows != spec.rows:
        raise ValueError(
            f"rows must be {rows} as store {location.url} has now, got {spec.rows}: it has grown"
            " meanwhile; run again with that number"
        )
