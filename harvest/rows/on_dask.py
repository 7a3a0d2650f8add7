"""On Dask: the buckets of a harvest spread over Dask workers.

Owns the task that a worker runs and the waiting for all of them. A bucket is a task; a worker keeps
the model between tasks. A bucket's content depends on the job alone. So a bucket whose worker died
is done again by another, and one that is done twice is written twice with the same bytes.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple
from functools import lru_cache
from threading import Lock
from typing import Any

from ...console import Progress
from ...settings import differences
from ...store import StoreSpec, StoreWriter
from ...workers.cluster import RETRIES, Watch, check_done, connect
from ...workers.stalls import STALLED_S, Stalls
from ..settings import HarvestSettings, from_driver, to_worker
from .bucket_job import BucketHarvester
from .plan import RowRange
from .prepare import open_writer, prepare, warn_of_versions

_POLL_S = 0.2
_ONE_AT_A_TIME = Lock()


def harvest_on_dask(
    settings: HarvestSettings,
    spec: StoreSpec,
    writer: StoreWriter,
    parts: dict[int, RowRange],
    bar: Progress,
) -> None:
    """Harvests buckets on the cluster of `settings.dask`; returns when all are committed.

    A bucket that stalls on a worker is begun on another as well; the first to commit it counts.

    Raises:
        OSError: the scheduler does not answer, or buckets failed whatever worker tried them.
        ValueError: `settings.dask` is no cluster, or a worker has another model or other tokens.
    """
    with connect(settings.dask or "") as client:
        sent = to_worker(settings), spec.model_dump_json()

        def begin(number: int, workers: list[str] | None = None) -> Any:
            part = astuple(parts[number])
            return client.submit(
                _harvest_bucket, *sent, number, part, pure=False, retries=RETRIES, workers=workers
            )

        written, missing = 0, len(parts)
        for number in _completed(client, begin, parts):
            written += _bytes_of(writer, number)
            missing -= 1
            rows = parts[number].stop - parts[number].start
            bar.advance(rows, left=f"{missing} buckets", written=f"{written / 1e9:.3g} GB")


def _completed(client: Any, begin: Callable[..., Any], numbers: Iterable[int]) -> Iterator[int]:
    """Begins all buckets and yields each when it is committed; raises its error if it failed."""
    from distributed import as_completed

    begun = {number: begin(number) for number in numbers}
    bucket_of = {future.key: number for number, future in begun.items()}
    events, missing, stalls = as_completed(list(begun.values())), set(begun), Stalls(STALLED_S)
    watch = Watch(client)
    begun.clear()  # so that Dask does not repeat a finished bucket when its worker dies
    while missing:
        for future in events.next_batch(block=False):
            number = bucket_of[future.key]
            if number in missing:
                check_done(future, f"bucket {number}")
                stalls.finished(future.key, time.monotonic())
                missing.remove(number)
                yield number
        workers = watch.processing()
        for key, worker in stalls.look(workers, time.monotonic()):
            others = [other for other in workers if other != worker]
            if others and bucket_of.get(key) in missing:
                again = begin(bucket_of[key], others)
                bucket_of[again.key] = bucket_of[key]
                events.add(again)
        time.sleep(_POLL_S)


def _harvest_bucket(settings_json: str, spec_json: str, number: int, part: tuple[int, ...]) -> None:
    """The task: harvests one bucket on this worker. The commit is its result."""
    settings = from_driver(HarvestSettings, settings_json)
    spec = StoreSpec.model_validate_json(spec_json)
    rows = RowRange(*part)
    # A worker with several threads has one model, and hooks of one bucket would see another's.
    with _ONE_AT_A_TIME, open_writer(settings, spec) as writer:
        job = _job_here(settings_json, spec_json)
        if number not in writer.committed:  # a worker taken for stalled may have committed it
            job.fill_all(writer, {number: rows}, lambda _bucket, _n: None)


@lru_cache(maxsize=1)
def _job_here(settings_json: str, spec_json: str) -> BucketHarvester:
    """This worker's model and tokens, loaded once and checked against what the others have."""
    spec = StoreSpec.model_validate_json(spec_json)
    job, origin = prepare(from_driver(HarvestSettings, settings_json), spec)
    # The command has made a folder's name absolute; the fingerprint tells models apart.
    origin["model"] = spec.provenance["model"]
    if changed := differences(spec.provenance, origin):
        raise ValueError(
            f"every worker must have the same model and tokens, one has {'; '.join(changed)}; "
            "put them where all workers reach them"
        )
    warn_of_versions(spec)
    return job


def _bytes_of(writer: StoreWriter, number: int) -> int:
    """Bytes a committed bucket takes."""
    shards = writer.commit(number).shards.values()
    return sum(record.n_bytes for records in shards for record in records)
