"""The cluster: buckets spread over Dask workers.

Owns the way to a Dask scheduler, the task that a worker runs, and what happens when workers die. A
bucket is a task; a worker keeps the model between tasks. Because a bucket's content depends on the
job alone, a bucket that was begun by a worker that died is simply done again by another, and one
that is done twice is written twice with the same bytes.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from ..console import Progress
from ..settings import differences
from ..store import StoreSpec, StoreWriter
from .plan import Part

if TYPE_CHECKING:
    from distributed import Client

    from .harvest import HarvestSettings
    from .job import Job

_CONNECT_S = 15
_RETRIES = 2
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_ONE_AT_A_TIME = Lock()
_LOCAL = re.compile(r"local:([1-9]\d*)")


def harvest_on_dask(
    settings: "HarvestSettings",
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

    with connect(settings.dask or "", bar) as client:
        sent = settings.model_dump_json(), spec.model_dump_json()
        futures = {
            client.submit(
                _harvest_bucket, *sent, number, astuple(part), pure=False, retries=_RETRIES
            ): number
            for number, part in parts.items()
        }
        written = 0
        for future in as_completed(list(futures)):
            number = futures.pop(future)
            _check_done(future, number)
            written += _bytes_of(writer, number)
            rows = parts[number].stop - parts[number].start
            bar.advance(rows, left=f"{len(futures)} buckets", written=f"{written / 1e9:.3g} GB")


@contextmanager
def connect(where: str, bar: Progress | None = None) -> Iterator["Client"]:
    """A client of `local:N` (N worker processes here, ended afterwards), of a scheduler's address,
    or of the scheduler that a scheduler file names."""
    from distributed import Client, LocalCluster

    if local := _LOCAL.fullmatch(where):
        n_workers = int(local[1])
        with (
            LocalCluster(
                n_workers=n_workers,
                threads_per_worker=1,
                memory_limit=0,
                dashboard_address=":0",
                silence_logs=40,
                # Dask would give every worker one thread, right for it and wrong for a model.
                env={name: str(max(1, (os.cpu_count() or 1) // n_workers)) for name in _THREADS},
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client
        return
    if "://" not in where and not Path(where).is_file():
        raise ValueError(
            "dask must be local:N, a scheduler's address such as tcp://host:8786, or a scheduler "
            f"file, got {where!r}"
        )
    try:
        if "://" in where:
            client = Client(where, timeout=_CONNECT_S)
        else:
            client = Client(scheduler_file=where, timeout=_CONNECT_S)
    except (OSError, ValueError) as error:
        raise OSError(
            f"dask scheduler {where} does not answer within {_CONNECT_S} s ({error}); start it, or "
            "pass --dask local:2"
        ) from error
    with client:
        yield client


def _harvest_bucket(settings_json: str, spec_json: str, number: int, part: tuple[int, ...]) -> None:
    """The task: harvests one bucket on this worker. The commit is its result."""
    from .harvest import HarvestSettings, open_writer

    settings = HarvestSettings.model_validate_json(settings_json)
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
    from .harvest import HarvestSettings, prepare

    job, origin = prepare(HarvestSettings.model_validate_json(settings_json))
    wanted = json.loads(spec_json)["provenance"]
    if changed := differences(wanted, origin):
        raise ValueError(
            f"every worker must have the same model and tokens, one has {'; '.join(changed)}; "
            "put them where all workers reach them"
        )
    return job


def _check_done(future: Any, number: int) -> None:
    """Raises what kept a bucket from being done.

    The future's result is not fetched: were its worker dead by now, it would be computed again.
    """
    from distributed.scheduler import KilledWorker

    if future.status == "finished":
        return
    error = future.exception()
    if isinstance(error, KilledWorker):
        raise OSError(
            f"bucket {number} could not be harvested: every worker that tried it died (out of "
            "memory?); what was committed is kept, the same command continues"
        ) from error
    raise error


def _bytes_of(writer: StoreWriter, number: int) -> int:
    """Bytes a committed bucket takes."""
    shards = writer.commit(number).shards.values()
    return sum(record.n_bytes for records in shards for record in records)
