"""Trains a sweep's members on Dask workers, one worker for each device.

Sends out the groups, waits for all of them, and stops them. A group is a task. A member's bits
depend on its settings alone, so another worker continues the group of one that died, from its
checkpoints. Stores, folders and checkpoints must be reachable from every worker under the same
names.
"""

import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any
from uuid import uuid4

import torch
from distributed import WorkerPlugin
from distributed.scheduler import KilledWorker

from ...console import Progress, progress
from ...workers.cluster import RETRIES, check_done, connect, n_local_workers
from ...workers.cluster import Watch as Workers
from ..ranks.stopping import StopSignals
from ..run.backends import check_backends
from ..run.memory import bytes_for
from ..run.trainer import Watch
from ..settings import TrainSettings
from .devices import Devices
from .group_task import SweepOrder, room_here, stop_here, train_group, versions
from .groups import groups_of
from .prepare import Stand, prepared, sent, worker_bytes_of

_POLL_S = 0.2
_STOP_S = 600.0
"""How long workers may take for their checkpoints."""


def train_on_dask(
    streams: Sequence[Sequence[TrainSettings]],
    devices: Devices,
    resume: bool = False,
    watch: Watch | None = None,
    wait: bool = False,
) -> None:
    """Trains the members of several streams on a cluster, or continues them.

    Each equals, bit for bit on one kind of device and with as many threads, the same settings
    trained alone. An error in one group does not keep the others from being trained.

    Args:
        streams: members that read one stream each; they are cut into groups, even over the workers
            and within their memory.
        devices: the cluster.
        resume: as `trainer.run` takes it.
        watch: called with the settings and every line that a member adds to its metrics.jsonl.
        wait: for other processes that own members' folders to end.

    Raises:
        ValueError: settings, stores and folders do not fit together, a member fits no worker, or
            members failed; the text names them.
        OSError: the scheduler does not answer.
        KeyboardInterrupt, SystemExit: SIGINT or SIGTERM came; the workers have written checkpoints.
    """
    stands = prepared(streams, resume, wait)
    if not stands:
        return
    order = SweepOrder(
        sweep=f"sweep-{uuid4().hex}",
        resume=resume,
        n_threads=torch.get_num_threads(),
        devices=devices.visible,
        versions=versions(),
    )
    left = sum(one.settings.steps - one.step for stream in stands for one in stream)
    with connect(devices.dask) as client, progress("train", left, "updates") as bar:
        if n_local_workers(devices.dask):
            client.register_plugin(_Uninterrupted())
        sweep = _Sweep(client, order, stands, watch or (lambda settings, line: None), bar)
        with StopSignals() as stop:
            if not sweep.has_workers(stop):
                stop.leave()
            sweep.begin(sweep.groups(stands))
            while sweep.look() and not stop.requested:
                time.sleep(_POLL_S)
            if stop.requested:
                sweep.end()
                stop.leave()
    if sweep.failures:
        raise ValueError("; ".join(sweep.failures))


class _Uninterrupted(WorkerPlugin):
    """Keeps Ctrl-C from the workers of a local cluster: a terminal sends it to all its processes,
    and the command tells them itself."""

    def setup(self, worker: Any) -> None:
        """Called in every worker, those that come later too."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)


@dataclass
class _Begun:
    """A group that was sent out.

    Attributes:
        future: of its task.
        numbers: its members' numbers.
        steps: its members' updates in all, when it was sent.
    """

    future: Any
    numbers: list[int]
    steps: int


class _Sweep:
    """The groups of a sweep on a cluster.

    Attributes:
        failures: a text for each group with members that could not be trained.
    """

    def __init__(
        self, client: Any, order: SweepOrder, stands: list[list[Stand]], watch: Watch, bar: Progress
    ):
        self._client, self._order, self._watch, self._bar = client, order, watch, bar
        self._members = [one for stream in stands for one in stream]
        self._steps = [one.step for one in self._members]
        self._told: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._workers = Workers(client)
        self.failures: list[str] = []
        client.subscribe_topic(order.sweep, lambda event: self._told.put(event[1]))
        self._waiting: list[_Begun] = []

    def has_workers(self, stop: StopSignals) -> bool:
        """Waits for the first worker; False if a signal came first."""
        while not self._workers.processing():
            if stop.requested:
                return False
            time.sleep(_POLL_S)
        return True

    def groups(self, stands: list[list[Stand]]) -> list[list[int]]:
        """The members' numbers, group by group.

        Raises:
            ValueError: workers differ, or a member fits none of them.
        """
        number = {one.settings.out: i for i, one in enumerate(self._members)}
        workers = self._workers_found()
        free, kind = worker_bytes_of(workers), next(iter(workers.values()))["kind"]
        device = torch.device(kind["device"])
        self._order = self._order.model_copy(update={"kind": kind})

        def bytes_of(group: list[TrainSettings]) -> int:
            return bytes_for(group, self._members[number[group[0].out]].source, device)

        streams = [[one.settings for one in stream] for stream in stands]
        check_backends([settings for stream in streams for settings in stream], device)
        groups = groups_of(streams, len(workers), bytes_of, free)
        return [[number[settings.out] for settings in group] for group in groups]

    def begin(self, groups: list[list[int]]) -> None:
        """Sends out all groups."""
        self._waiting = [self._sent(numbers) for numbers in groups]

    def look(self) -> bool:
        """Handles the workers' messages and finished groups; returns whether groups are left.

        Raises:
            OSError: the scheduler is gone.
        """
        self._workers.processing()
        self._listen()
        for begun in [begun for begun in self._waiting if begun.future.done()]:
            self._waiting.remove(begun)
            self._take(begun)
        return bool(self._waiting)

    def end(self) -> None:
        """Makes the workers stop with checkpoints, and waits for them."""
        deadline = time.monotonic() + _STOP_S
        while time.monotonic() < deadline:
            there = self._workers.answering()
            self._client.run(stop_here, self._order.sweep, workers=there, on_error="ignore")
            tasks = self._workers.processing()
            running = {key for worker in there for key in tasks.get(worker, ())}
            if not any(begun.future.key in running for begun in self._waiting):
                return
            time.sleep(_POLL_S)

    def _workers_found(self) -> dict[str, dict[str, Any]]:
        """Device, kind and free memory of every worker (`room_here`), by its address."""
        device = self._members[0].settings.device
        try:
            there = self._workers.answering()
            return self._client.run(room_here, self._order, device, workers=there)
        except (ImportError, AttributeError) as error:
            raise ValueError(
                f"every worker must have the command's scopeworks, one has another or none "
                f"({error}); start all in one environment"
            ) from error

    def _sent(self, numbers: list[int]) -> _Begun:
        """Sends out a group."""
        values = [sent(self._members[i].settings) for i in numbers]
        future = self._client.submit(
            train_group, self._order, numbers, values, pure=False, retries=RETRIES
        )
        return _Begun(future, numbers, self._steps_of(numbers))

    def _steps_of(self, numbers: list[int]) -> int:
        return sum(self._steps[i] for i in numbers)

    def _listen(self) -> None:
        """Handles the metrics lines that have come; some come again after a worker died."""
        while not self._told.empty():
            told = self._told.get()
            number, line = told["number"], told["line"]
            self._watch(self._members[number].given, line)
            self._advance(number, line["step"], L0=line["l0"], FVU=line["fvu"])

    def _advance(self, number: int, step: int, **shown: float) -> None:
        """Moves the progress bar to a member's step."""
        self._bar.advance(max(0, step - self._steps[number]), **shown)
        self._steps[number] = max(step, self._steps[number])

    def _take(self, begun: _Begun) -> None:
        """Handles a group that has ended: counts its members as trained, sends it out again, or
        keeps its failure."""
        names = ", ".join(self._members[i].given.out.name for i in begun.numbers)
        try:
            check_done(begun.future, f"the group of {names}")
            failure = begun.future.result()
        except Exception as error:
            killed = isinstance(error.__cause__, KilledWorker)
            if killed and self._steps_of(begun.numbers) > begun.steps:
                # It made progress: workers may be lost again and again (preemptible machines).
                self._waiting.append(self._sent(begun.numbers))
                return
            known = isinstance(error, ValueError | OSError)
            failure = str(error) if known else f"{type(error).__name__}: {error}"  # and Dask's log
        if failure is None:
            for number in begun.numbers:
                self._advance(number, self._members[number].settings.steps)
        else:
            self.failures.append(self._named(failure, begun.numbers, names))

    def _named(self, failure: str, numbers: list[int], names: str) -> str:
        """The failure, preceded by the members' names unless it contains one."""
        known = any(self._members[i].given.out.name in failure for i in numbers)
        return failure if known else f"{names}: {failure}"
