"""Bucket tasks: the buckets of a harvest spread over Dask workers.

Owns the task that a worker runs and the waiting for all of them. A bucket is a task; a worker keeps
the model between tasks. Because a bucket's content depends on the job alone, a bucket that was
begun by a worker that died is simply done again by another, and one that is done twice is written
twice with the same bytes.
"""

from dataclasses import astuple
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING

from ..console import Progress
from ..settings import differences
from ..store import StoreSpec, StoreWriter
from .cluster import RETRIES, check_done, connect
from .plan import Part
from .settings import HarvestSettings, from_driver, to_worker

if TYPE_CHECKING:
    from .job import Job

_ONE_AT_A_TIME = Lock()


def harvest_on_dask(
    settings: HarvestSettings,
    spec: StoreSpec,
    writer: StoreWriter,
    parts: dict[int, Part],
    bar: Progress,
) -> None:
    """Harvests buckets on the cluster of `settings.dask`; returns when all are committed.

    Raises:
        OSError: the scheduler does not answer, or buckets failed whatever worker tried them.
        ValueError: `settings.dask` is no cluster, or a worker has another model or other tokens.
    """
    from distributed import as_completed

    with connect(settings.dask or "") as client:
        sent = to_worker(settings), spec.model_dump_json()
        futures = {
            client.submit(
                _harvest_bucket, *sent, number, astuple(part), pure=False, retries=RETRIES
            ): number
            for number, part in parts.items()
        }
        written = 0
        for future in as_completed(list(futures)):
            number = futures.pop(future)
            check_done(future, f"bucket {number}")
            written += _bytes_of(writer, number)
            rows = parts[number].stop - parts[number].start
            bar.advance(rows, left=f"{len(futures)} buckets", written=f"{written / 1e9:.3g} GB")


def _harvest_bucket(settings_json: str, spec_json: str, number: int, part: tuple[int, ...]) -> None:
    """The task: harvests one bucket on this worker. The commit is its result."""
    from .harvest import open_writer

    settings = from_driver(HarvestSettings, settings_json)
    spec = StoreSpec.model_validate_json(spec_json)
    rows = Part(*part)
    # A worker with several threads has one model, and hooks of one bucket would see another's.
    with _ONE_AT_A_TIME, open_writer(settings, spec) as writer:
        job = _job_here(settings_json, spec_json)
        if number not in writer.committed:  # else a worker that was given up has done it after all
            job.fill_all(writer, {number: rows}, lambda _bucket, _n: None)


@lru_cache(maxsize=1)
def _job_here(settings_json: str, spec_json: str) -> "Job":
    """This worker's model and tokens, loaded once and checked against what the others have."""
    from .harvest import prepare

    spec = StoreSpec.model_validate_json(spec_json)
    job, origin = prepare(from_driver(HarvestSettings, settings_json), spec)
    if changed := differences(spec.provenance, origin):
        raise ValueError(
            f"every worker must have the same model and tokens, one has {'; '.join(changed)}; "
            "put them where all workers reach them"
        )
    return job


def _bytes_of(writer: StoreWriter, number: int) -> int:
    """Bytes a committed bucket takes."""
    shards = writer.commit(number).shards.values()
    return sum(record.n_bytes for records in shards for record in records)
