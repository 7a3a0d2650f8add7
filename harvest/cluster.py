"""The cluster: the way to Dask workers, and what a task that failed says.

Owns local clusters, schedulers' addresses and scheduler files. What a task does is `bucket_tasks`'
and `part_tasks`' business.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Client

RETRIES = 2
"""How often a task that raised is tried again; one whose worker died is tried again anyway."""

_CONNECT_S = 15
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
_LOCAL = re.compile(r"local:([1-9]\d*)")


@contextmanager
def connect(where: str) -> Iterator["Client"]:
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
            _show_dashboard(client)
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
        _show_dashboard(client)
        yield client


def _show_dashboard(client: "Client") -> None:
    """Tells where the cluster can be watched."""
    print(f"dask dashboard: {client.dashboard_link}", file=sys.stderr)


def n_local_workers(where: str | None) -> int:
    """Worker processes that `connect` would start here; 0 if others compute, or nobody else."""
    local = _LOCAL.fullmatch(where or "")
    return int(local[1]) if local else 0


def check_done(future: Any, what: str) -> None:
    """Raises what kept a task ("bucket 3") from being done.

    The future's result is not fetched: were its worker dead by now, it would be computed again.
    """
    from distributed.scheduler import KilledWorker

    if future.status == "finished":
        return
    error = future.exception()
    if error is None:  # its worker died just now; it was done, and has been done again
        return
    if isinstance(error, KilledWorker):
        raise OSError(
            f"{what} could not be done: every worker that tried it died (out of memory?); what was "
            "committed is kept, the same command continues"
        ) from error
    raise error
