"""Copying a store to another place, codec or chunking, bucket by bucket.

Owns the walk over the buckets, in this process or on Dask workers. A bucket keeps its rows and
their order, so a copy with an equal spec is bit-identical. Buckets that are already committed at
the target are not copied again.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from ..format.commits import Commit
from ..format.spec import StoreSpec
from ..place.location import StorageOptions
from ..place.place import AnyPlace, Place
from ..read.reader import ActivationStore
from ..write.writer import StoreWriter

_BLOCK_BYTES = 2**26


@dataclass(frozen=True)
class CopyJob:
    """Source, target and the target's spec; sent to Dask workers."""

    source: Place
    target: Place
    spec: StoreSpec

    def bucket(self, bucket: int) -> int:
        """Copies one bucket; returns its rows."""
        source = ActivationStore.open(self.source)
        start = 0
        for commit in source.commits:
            if commit.bucket == bucket:
                with StoreWriter.open(self.target, self.spec) as writer:
                    _copy_bucket(source, writer, commit, start)
                return commit.rows
            start += commit.rows
        raise ValueError(f"bucket {bucket} must be committed in {self.source.url}, got none")


def copy_store(
    source: AnyPlace,
    target: AnyPlace,
    *,
    codec: str | None = None,
    chunk_rows: int | None = None,
    shard_rows: int | None = None,
    source_options: StorageOptions = None,
    target_options: StorageOptions = None,
    workers: int = 0,
    scheduler: str | None = None,
    advance: Callable[[int], None] = lambda _rows: None,
) -> int:
    """Copies every committed bucket that the target lacks; call it again to continue, also after
    the source has grown.

    Args:
        source, target: paths, URLs or places.
        codec, chunk_rows, shard_rows: of the target; by default the source's.
        source_options, target_options: of the URLs, as fsspec takes them.
        workers: Dask worker processes to start; 0 copies in this process.
        scheduler: address of a Dask scheduler to use instead.
        advance: called with the rows of each bucket when it is copied.

    Returns:
        Rows copied by this call.

    Raises:
        FileNotFoundError: there is no store at the source.
        ValueError: the target holds something else, or sizes do not fit.
        DamagedStoreError: a chunk of the source is damaged.
    """
    source, target = Place.of(source, source_options), Place.of(target, target_options)
    store = ActivationStore.open(source)
    changed = {"codec": codec, "chunk_rows": chunk_rows, "shard_rows": shard_rows}
    given = {name: value for name, value in changed.items() if value is not None}
    spec = StoreSpec.model_validate(store.spec.model_dump() | given)
    job = CopyJob(source, target, spec)
    with StoreWriter.open(target, spec) as writer:
        done = writer.committed
    missing = [commit.bucket for commit in store.commits if commit.bucket not in done]
    copied = 0
    for rows in _each(job, missing, workers, scheduler):
        copied += rows
        advance(rows)
    return copied


def _each(job: CopyJob, missing: list[int], workers: int, scheduler: str | None) -> Iterator[int]:
    """Copies buckets and yields the rows of each; the first alone, as it may set int8's scales."""
    if missing:
        yield job.bucket(missing[0])
    if not workers and scheduler is None:
        yield from map(job.bucket, missing[1:])
        return
    from distributed import as_completed

    with _client(workers, scheduler) as client:
        futures = client.map(job.bucket, missing[1:], pure=False)
        for future in as_completed(futures):
            yield future.result()


@contextmanager
def _client(workers: int, scheduler: str | None) -> Iterator[Any]:
    """A Dask client of the given scheduler, or of a new local cluster."""
    from distributed import Client, LocalCluster

    if scheduler is not None:
        with Client(scheduler) as client:
            yield client
        return
    cluster = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0")
    with cluster, Client(cluster) as client:
        yield client


def _copy_bucket(source: ActivationStore, writer: StoreWriter, commit: Commit, start: int) -> None:
    """Copies a bucket: rows [start, start + commit.rows) of the source, in stored order."""
    widest = max(source.sites.values())
    step = max(1, _BLOCK_BYTES // (4 * widest))
    with writer.bucket(commit.bucket, in_stored_order=True) as bucket:
        for first in range(start, start + commit.rows, step):
            last = min(first + step, start + commit.rows)
            rows: dict[str, torch.Tensor] = {
                site: source.read(site, first, last) for site in source.sites
            }
            labels = source.labels(first, last)
            bucket.append(
                rows, token=labels.token, sequence=labels.sequence, position=labels.position
            )
        bucket.leave_out(commit.dropped, commit.dropped_at)
