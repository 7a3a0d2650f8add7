"""Shards without a commit, left by a killed or failed writer or by a withdrawn bucket.

Owns finding them, and removing them when no writer can be running. They take space but do no harm:
readers do not see them, and the next writer of the bucket replaces them.
"""

import time
from collections import defaultdict

from ..format.commits import committed_buckets
from ..format.spec import StoreSpec
from ..place.location import Location

_QUIET_S = 3600
"""If nothing was written for so long, the store has no writer."""


def orphans(location: Location, spec: StoreSpec) -> dict[int, list[str]]:
    """Bucket without a commit -> keys of its shards that exist."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    for layout in [*spec.site_layouts().values(), *spec.label_layouts().values()]:
        for name in location.children(f"{layout.path}/c"):
            if len(name) < 20 and name.isdecimal() and name == str(int(name)):
                bucket = int(name) * layout.shard_rows // spec.bucket_rows
                found[bucket].append(layout.shard_key(int(name)))
    # Listed last: a bucket that is committed meanwhile is not taken for an orphan.
    committed = set(committed_buckets(location, spec))
    return {bucket: found[bucket] for bucket in sorted(found.keys() - committed)}


def remove_orphans(location: Location, found: dict[int, list[str]]) -> None:
    """Removes shards without a commit, as `orphans` has found them.

    Raises:
        ValueError: an object of the store is younger than an hour or of unknown age, so a writer
            may be running; nothing is removed.
    """
    if found:
        _check_quiet(location)
    for key in (key for keys in found.values() for key in keys):
        location.remove(key)


def _check_quiet(location: Location) -> None:
    """Refuses a store that a writer may be writing."""
    try:
        age = time.time() - location.newest()
    except OSError as error:
        raise ValueError(
            f"the age of the objects of store {location.url} must be known for its shards without"
            f" a commit to be removed, got {error}; nothing was removed"
        ) from error
    if age < _QUIET_S:
        raise ValueError(
            f"store {location.url} must have no object younger than an hour for its shards without"
            f" a commit to be removed, got one of {max(age, 0) / 60:.0f} minutes; nothing was"
            " removed: wait until no writer is at work"
        )
