"""Sealing a bucket: first its shards are written, then its commit record, and the bucket exists.

Owns the order of these steps, which keeps a committed bucket complete. Two processes may seal the
same bucket at once, if a scheduler believes that a living worker is dead. Both write equal bytes
under equal keys, because a bucket is a pure function of its inputs; every object is replaced
atomically; and no writer ever removes a shard. So a committed bucket is complete, whichever process
fails, and whenever. Shards without a commit do no harm; the next writer of the bucket replaces
them.
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
    """Writes and commits a bucket; does nothing if it is already committed.

    Args:
        scales: see `BucketWriter.seal`.
        sending_bytes: bound on the bytes of shards that are being uploaded at once.

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
    """The commit record of a bucket; None if it is missing or damaged."""
    try:
        return read_commit(location, bucket, spec)
    except (FileNotFoundError, DamagedStoreError):
        return None
