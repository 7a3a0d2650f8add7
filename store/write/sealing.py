"""Sealing a bucket: shards, then the commit, whatever other processes do to the same bucket.

Owns the order of events that keeps a committed bucket whole. A task may run twice at the same
time: a scheduler gives a worker up that lives after all. Nothing is locked. Instead

- a bucket that is committed by then is left as it is;
- who has written a commit looks afterwards whether all shards are there; if not, it withdraws the
  commit and writes the bucket again;
- who has failed removes shards only while there is no commit, and afterwards looks whether one has
  come in between; if it lacks shards, it is withdrawn.

So whatever is committed in the end is complete. The bytes are the same whoever wrote them, because
a bucket is a pure function of what it is made from.
"""

from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress

import numpy as np

from ..format.arrays import DamagedStoreError
from ..format.commits import Commit, commit_key, is_whole, read_commit, write_commit
from ..format.root import read_root
from ..format.spec import StoreSpec
from ..place.location import Location
from ..place.uploads import sending
from .bucket import BucketWriter
from .saturation import check_saturation

_TRIES = 3
"""Times a bucket is written when a failing process removes its shards."""

_ASKING = 16
"""Objects asked for side by side."""


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
        OSError: it could not be written (disk full, upload failed); its shards are gone again.
        ValueError: the store has grown, and the bucket is not the short last one any more; or int8
            has cut too many of its values.
    """
    bucket, keys = filling.bucket, filling.shard_keys()
    _check_size(location, spec, bucket)
    if whole_commit(location, spec, bucket) is not None:
        return
    try:
        location.remove(commit_key(bucket))  # of a bucket that the store has outgrown
        location.sweep([*keys, commit_key(bucket)])
        gone = None
        for _ in range(_TRIES):
            try:
                with sending(location, sending_bytes) as sink:
                    commit = filling.seal(sink, pool, scales)
                check_saturation(commit, spec)
                if _commit(location, spec, commit, keys):
                    return
            except FileNotFoundError as error:  # a shard, before it was flushed
                gone = error
        raise OSError(
            f"bucket {bucket} of {location.url} lost shards every time it was written"
            f" ({gone or 'removed after the commit'}); it is not committed; mend what other"
            " processes at the same bucket report, or the place itself"
        ) from gone
    except BaseException:
        _undo(location, spec, bucket, keys)
        raise


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


def _commit(location: Location, spec: StoreSpec, commit: Commit, keys: list[str]) -> bool:
    """Makes the bucket exist, unless another process has just done so with the same bytes; False
    if somebody has removed shards meanwhile and the commit was withdrawn."""
    twin = whole_commit(location, spec, commit.bucket)
    if twin is None:
        write_commit(location, commit)
    elif twin.shards != commit.shards:
        location.remove(commit_key(commit.bucket))
        raise OSError(
            f"bucket {commit.bucket} of {location.url} was written by two processes with different"
            " rows; it is not committed; give it to one of them"
        )
    return _is_committed(location, spec, commit.bucket, keys)


def _undo(location: Location, spec: StoreSpec, bucket: int, keys: list[str]) -> None:
    """Removes what a failed writer has left, unless somebody has committed it. Errors in doing so
    would hide the one that matters; what cannot be looked at is left, for shards without a commit
    harm nobody."""
    with suppress(OSError):
        if _is_committed(location, spec, bucket, keys):
            return
        for key in keys:
            with suppress(OSError):
                location.remove(key)
        _is_committed(location, spec, bucket, keys)


def _is_committed(location: Location, spec: StoreSpec, bucket: int, keys: list[str]) -> bool:
    """Whether a bucket is committed and whole; withdraws a commit that lacks shards, or whose
    shards cannot be looked at."""
    commit = whole_commit(location, spec, bucket)
    if commit is None:
        return False
    try:
        lossy = _is_lossy(location, commit, keys)
    except OSError:
        lossy = True
    if lossy:
        location.remove(commit_key(bucket))
    return not lossy


def _is_lossy(location: Location, commit: Commit, keys: list[str]) -> bool:
    """Whether a committed shard is not there in the committed size."""
    committed = {
        (path, record.shard): record.n_bytes
        for path, records in commit.shards.items()
        for record in records
    }

    def is_lost(key: str) -> bool:
        path, _, shard = key.partition("/c/")
        n_bytes = committed.get((path, int(shard.split("/")[0])))
        if n_bytes is None:  # all its rows were dropped
            return False
        try:
            return location.size(key) != n_bytes
        except FileNotFoundError:
            return True

    with ThreadPoolExecutor(_ASKING) as pool:
        return any(list(pool.map(is_lost, keys)))
