"""Connections to Dask clusters, and the errors of tasks that failed.

Owns local clusters, schedulers' addresses and scheduler files. The stages' modules `on_dask` own
what a task does.
"""

import math
import re
import sys
import time
from asyncio import CancelledError
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..machine import available_cores
from .silence import DASKS_TTL_S, SILENT_S, Silence

if TYPE_CHECKING:
    from distributed import Client

RETRIES = 2
"""How often a task that raised an error is tried again. Dask itself retries a task whose worker
died."""

_CONNECT_S = 15
_ALONE_S, _ALONE_AGAIN_S = 5.0, 300.0
"""A scheduler without workers is reported after 5 s, and then again every 300 s."""

_LOOKS, _ANSWERS_S, _RESTART_S = 20, 30.0, 30.0
"""How often workers are looked at in `SILENT_S`, within how many seconds all that answer are heard
from (one that imports torch is silent for a while), and how long a nanny may take to kill its
worker."""

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
_LOCAL = re.compile(r"local:([1-9]\d*)")


def check_cluster(where: str) -> None:
    """Raises ValueError if `where` names no cluster; imports nothing for it."""
    if not (_LOCAL.fullmatch(where) or "://" in where or Path(where).is_file()):
        raise ValueError(
            "dask must be local:N, a scheduler's address such as tcp://host:8786, or a scheduler "
            f"file, got {where!r}"
        )


@contextmanager
def connect(where: str) -> Iterator["Client"]:
    """A Dask client of a cluster.

    Args:
        where: `local:N` (N worker processes on this machine, which end with the block), the address
            of a scheduler, or a scheduler file.

    Raises:
        ValueError: `where` names no cluster.
        OSError: the scheduler does not answer, or is lost during the block.
    """
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
                # Dask sets these to 1 for every worker, which would make a model slow.
                env={name: str(max(1, available_cores() // n_workers)) for name in _THREADS},
            ) as cluster,
            Client(cluster) as client,
        ):
            _show_dashboard(client)
            with _scheduler_there(client, where):
                yield client
        return
    check_cluster(where)
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
        with _scheduler_there(client, where):
            yield client


@contextmanager
def _scheduler_there(client: "Client", where: str) -> Iterator[None]:
    """Turns any error that a lost scheduler causes into one that says so."""
    try:
        yield
    except Exception as error:
        if client.status == "running":
            raise
        raise OSError(
            f"dask scheduler {where} has gone and did not come back within {_CONNECT_S} s; what "
            "was done is kept: start it again and run the same command"
        ) from error


class Watch:
    """Watches a cluster while its tasks run: reports on stderr if it has no workers, and restarts
    those that do not answer, so that others get their tasks."""

    def __init__(self, client: Any):
        self._client = client
        self._say_at: float | None = None
        self._limit_s = _silent_s()
        self._silence, self._look_at = Silence(self._limit_s), 0.0

    def processing(self) -> Mapping[str, Iterable[str]]:
        """Worker -> keys of the tasks that it has.

        Raises:
            OSError: the scheduler has gone.
        """
        if self._client.status in ("closing", "closed"):
            raise OSError("the client of the dask scheduler is closed")
        try:
            workers = self._client.processing()
        except OSError:  # the client tries to reach the scheduler again, and closes if it cannot
            return {}
        now = time.monotonic()
        self._mention(len(workers), now)
        if now >= self._look_at:
            self._look_at = now + SILENT_S / _LOOKS
            self._restart_silent(now)
        return workers

    def answering(self) -> list[str]:
        """Addresses of the workers that were heard from lately; a call to another may hang."""
        seen = {address: row["last_seen"] for address, row in self._rows().items()}
        return [one for one, mark in seen.items() if mark > max(seen.values()) - _ANSWERS_S]

    def _rows(self) -> dict[str, dict[str, Any]]:
        """What the scheduler knows of each worker, by its address."""
        return self._client.scheduler_info(n_workers=-1)["workers"]

    def _restart_silent(self, now: float) -> None:
        """Has silent workers restarted: killed by their nannies, where these answer. Those without
        are forgotten. In both cases the scheduler gives their tasks to others."""
        try:
            rows = self._rows()
        except OSError:  # as in `processing`
            return
        seen = {address: row["last_seen"] for address, row in rows.items()}
        for address in self._silence.look(seen, now):
            name = rows[address]["name"]
            named = address if name == address else f"{name} at {address}"
            print(
                f"dask worker {named} has not answered for {self._limit_s:g} s (halted, or its "
                "machine is lost): it is restarted or given up, and its work is continued",
                file=sys.stderr,
            )
            self._client.sync(
                self._client.scheduler.restart_workers,
                workers=[address],
                timeout=_RESTART_S,
                wait_for_workers=False,
                on_error="return",
                stimulus_id=f"silent-{address}",
            )

    def _mention(self, n_workers: int, now: float) -> None:
        """Prints a line if there are no workers; no error, since workers may join at any time."""
        if n_workers:
            self._say_at = None
        elif self._say_at is None:
            self._say_at = now + _ALONE_S
        elif now >= self._say_at:
            address = self._client.scheduler.address
            print(
                f"dask scheduler {address} has no workers; waiting for one: dask worker {address}",
                file=sys.stderr,
            )
            self._say_at = now + _ALONE_AGAIN_S


def _silent_s() -> float:
    """Seconds after which a silent worker is given up: `SILENT_S`, more if Dask's own limit
    (`worker-ttl`) has been raised, and never without one."""
    import dask.config
    from dask.utils import parse_timedelta

    ttl = dask.config.get("distributed.scheduler.worker-ttl", None)
    ttl_s = float(parse_timedelta(ttl)) if ttl is not None else math.inf
    return SILENT_S if ttl_s <= DASKS_TTL_S else ttl_s


def _show_dashboard(client: "Client") -> None:
    """Prints the address of Dask's dashboard."""
    print(f"dask dashboard: {client.dashboard_link}", file=sys.stderr)


def n_local_workers(where: str | None) -> int:
    """Number of worker processes that `connect` would start on this machine."""
    local = _LOCAL.fullmatch(where or "")
    return int(local[1]) if local else 0


def check_done(future: Any, what: str) -> None:
    """Raises the error of a task if it failed.

    Args:
        future: of the task, which has ended.
        what: names the task in errors, such as "bucket 3".

    Raises:
        OSError: the task was cancelled, or every worker that tried it died.
        Exception: the task's own error.
    """
    # The result is not fetched: if its worker has died, Dask would compute it again.
    from distributed.scheduler import KilledWorker

    if future.status == "finished":
        return
    try:
        error = future.exception()
    except CancelledError:
        error = None
    if error is None and future.status != "finished":
        raise OSError(f"{what} was cancelled; what was committed is kept, run the command again")
    if error is None:  # its worker died after the task was done, and Dask has done it again
        return
    if isinstance(error, KilledWorker):
        raise OSError(
            f"{what} could not be done: every worker that tried it died (out of memory?); what was "
            "committed is kept, the same command continues"
        ) from error
    raise error
