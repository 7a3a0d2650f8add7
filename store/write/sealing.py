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
from ..format.commits import Commit, commit_key, read_commit, write_commit
from ..format.spec import StoreSpec
from ..place.location import Location
from ..place.uploads import sending
from .bucket import BucketWriter
from .saturation import check_saturation


def seal(
    location: Location,
    spec: StoreSpec,
    bucket: BucketWriter,
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
        ValueError: int8 has cut too many of its values.
    """
    key = commit_key(bucket.bucket)
    if sound_commit(location, spec, bucket.bucket) is not None:
        return
    location.sweep([*bucket.shard_keys(), key])
    with sending(location, sending_bytes) as sink:
        commit = bucket.seal(sink, pool, scales)
    check_saturation(commit, spec)
    twin = sound_commit(location, spec, bucket.bucket)
    if twin is None:
        write_commit(location, commit)
    elif twin.shards != commit.shards:
        location.remove(key)
        raise OSError(
            f"bucket {bucket.bucket} of {location.url} was written by two processes with different"
            " rows; it is not committed; give it to one of them"
        )


def sound_commit(location: Location, spec: StoreSpec, bucket: int) -> Commit | None:
    """The record of a bucket, None where there is none or a damaged one."""
    try:
        return read_commit(location, bucket, spec)
    except (FileNotFoundError, DamagedStoreError):
        return None
