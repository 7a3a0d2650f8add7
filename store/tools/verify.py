"""Checking a store: everything that a reader relies on, and every byte, against its commits.

Owns the walk over commit records and arrays, and which buckets are damaged. `shard_check` checks
the shard objects, `documents` the Zarr documents.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock

from ...arguments import several, whole
from ..format.arrays import ArrayLayout, DamagedStoreError
from ..format.commits import Commit, commit_key, committed_buckets, read_commit
from ..format.root import KEY, Root, read_root
from ..format.spec import LABEL_NAMES, StoreSpec
from ..place.local import UnsafeObjectError
from ..place.locate import locate
from ..place.location import Location, StorageOptions
from ..place.place import INSIDE, AnyPlace
from ..write.saturation import warn_of_saturation
from .documents import document_problems, is_as_written
from .orphans import orphans, remove_orphans
from .shard_check import check_array


@dataclass
class Report:
    """The result of `verify_store`."""

    problems: list[str] = field(default_factory=list)
    """One line per damaged object or chunk; empty for a sound store."""
    damaged: set[int] = field(default_factory=set)
    """Committed buckets whose record or shards are damaged."""
    notes: list[str] = field(default_factory=list)
    """One line per object that is no part of the store, and per bucket with shards but no commit;
    neither is damage."""
    buckets: int = 0
    """Committed buckets."""
    n_buckets: int = 0
    """Buckets of the complete store."""
    checked_bytes: int = 0
    """Bytes of shard objects read."""
    removed: dict[int, int] = field(default_factory=dict)
    """Bucket without a commit -> number of its shards that were removed."""

    def __repr__(self) -> str:
        state = f"{len(self.problems)} problems" if self.problems else "sound"
        return (
            f"Report({state}: {self.buckets} of {self.n_buckets} buckets, "
            f"{self.checked_bytes:,} bytes checked, {len(self.notes)} notes)"
        )


def verify_store(
    url: AnyPlace,
    storage_options: StorageOptions = None,
    *,
    clean: bool = False,
    threads: int = 2,
    advance: Callable[[int], None] = lambda _bytes: None,
) -> Report:
    """Reads every committed object, decodes its chunks and adds up its rows.

    Warns on stderr if int8 has cut too many values.

    Args:
        url: path, URL or place of an activation store.
        storage_options: of a URL, as fsspec takes them.
        clean: first remove shards without a commit.
        threads: arrays checked in parallel.
        advance: called with the bytes of each object when it is checked, by one thread at a time.

    Raises:
        FileNotFoundError: there is no activation store.
        ValueError: its root document is unusable, or it cannot be cleaned because a writer may be
            running.
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
    if clean:
        found = orphans(location, spec)
        remove_orphans(location, found)
        report.removed = {bucket: len(keys) for bucket, keys in found.items()}
    report.problems += document_problems(location, root)
    report.notes += _unknown(location, spec)
    commits = list(_readable_commits(location, root, report))
    report.notes += _unfinished(location, spec)
    warn_of_saturation(location.url, commits, spec, spec.sites)
    work = [(commit, layouts[path]) for commit in commits for path in commit.shards]
    one_at_a_time = Lock()

    def count(n_bytes: int) -> None:
        with one_at_a_time:
            report.checked_bytes += n_bytes
            advance(n_bytes)

    def check(item: tuple[Commit, ArrayLayout]) -> tuple[int, list[str]]:
        commit, layout = item
        return commit.bucket, check_array(location, spec, layout, commit, count)

    said: defaultdict[int, list[str]] = defaultdict(list)
    with ThreadPoolExecutor(threads) as pool:
        for bucket, problems in pool.map(check, work):
            said[bucket] += problems
    for bucket, problems in said.items():
        report.problems += problems
        report.damaged |= {bucket} if problems else set()
    return report


def withdraw_buckets(
    url: AnyPlace, buckets: int | Iterable[int], storage_options: StorageOptions = None
) -> None:
    """Removes the commit records of buckets, so that the same harvest writes these buckets again.

    Until then readers do not see their rows, also those that are sound.
    """
    location = locate(url, storage_options)
    for bucket in sorted(whole("buckets", one) for one in several(buckets)):
        location.remove(commit_key(bucket))


def _readable_commits(location: Location, root: Root, report: Report) -> Iterator[Commit]:
    """The sound commit records; the others become problems of the report."""
    for bucket in committed_buckets(location, root.spec):
        report.buckets += 1
        key = commit_key(bucket)
        try:
            commit = read_commit(location, bucket, root.spec)
            if not is_as_written(location.read(key)):
                report.problems.append(f"{key} is not as it was written")
        except FileNotFoundError:
            report.problems.append(f"commit of bucket {bucket}: {key} is missing")
        except (DamagedStoreError, UnsafeObjectError) as error:
            report.problems.append(str(error))
            report.damaged.add(bucket)
        else:
            yield commit


def _unknown(location: Location, spec: StoreSpec) -> Iterator[str]:
    """A note for each object that is no part of the store; they do no harm."""
    folders = {
        "": {KEY, "sites", "labels", "commits", INSIDE},
        "sites": {KEY, *spec.sites},
        "labels": {KEY, *LABEL_NAMES},
    }
    for folder, known in folders.items():
        for name in location.children(folder):
            if name not in known:
                yield f"{f'{folder}/{name}'.lstrip('/')} is no part of the store"
    numbers = {f"{bucket:08d}" for bucket in committed_buckets(location, spec)}
    for name in location.children("commits"):
        if name != KEY and name not in numbers:
            yield f"commits/{name} is no part of the store of {spec.n_buckets} buckets"


def _unfinished(location: Location, spec: StoreSpec) -> Iterator[str]:
    """A note for each bucket with shards but without a commit; they do no harm."""
    for bucket, keys in orphans(location, spec).items():
        yield (
            f"bucket {bucket} has data ({len(keys)} shards) but no commit record: it is unfinished,"
            " or the record is lost; run the harvest again, or remove them with --clean"
        )
