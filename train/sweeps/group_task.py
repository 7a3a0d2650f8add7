"""The task: a Dask worker trains a group of a sweep's members.

Owns what happens on the worker: its device, its threads, what it tells while it trains, and how it
is asked to stop. Which groups there are and what becomes of them is `on_dask`'s.
"""

import os
import socket
from collections.abc import Callable, Sequence
from importlib.metadata import version
from threading import Lock
from typing import Any

import torch
from pydantic import Field

from ...console import hidden_progress
from ...machine import find_device, free_memory
from ...settings import Settings, differences
from ...version import __version__
from ..run.trainer import run
from ..settings import TrainSettings
from .devices import check_kind, kind_of

_ONE_AT_A_TIME = Lock()
"""A worker with several threads has one device still."""

_STOPPED: set[str] = set()
"""Sweeps that are to end."""


class SweepOrder(Settings):
    """What every task of a sweep is told."""

    sweep: str
    """Its name on the cluster, under which workers tell of their progress."""
    resume: bool
    """As `trainer.run` takes it."""
    n_threads: int
    """Of the command: sums over parts of other sizes round differently."""
    devices: tuple[str, ...]
    """CUDA_VISIBLE_DEVICES of every worker by its number; none where workers have devices of their
    own."""
    versions: dict[str, str]
    """The command's: with others a member's bits would differ."""
    kind: dict[str, str] = Field(default_factory=dict)
    """What every worker has, as the first ones have said: with others bits would differ too."""


def room_here(order: SweepOrder, device: str, dask_worker: Any = None) -> dict[str, Any]:
    """What this worker has: its device and the bytes free there. Workers of one `place` share it.

    Raises:
        ValueError: it has other versions than the command, or no such device.
    """
    found = _device_here(order, device, dask_worker)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") if found.type == "cuda" else None
    return {
        "place": (socket.gethostname(), str(found), visible),
        "kind": kind_of(found),
        "free": free_memory(found),
    }


def versions() -> dict[str, str]:
    """The versions that a member's bits depend on, whatever the device."""
    return {"scopeworks": __version__, "torch": version("torch")}


def stop_here(sweep: str) -> None:
    """Ends what this worker does of a sweep, with checkpoints."""
    _STOPPED.add(sweep)


def train_group(
    order: SweepOrder, numbers: Sequence[int], members: list[dict[str, Any]]
) -> str | None:
    """The task: trains members, or continues them from their checkpoints.

    Args:
        order: of the sweep.
        numbers: the members' own in the sweep.
        members: their settings, storage options included.

    Returns:
        What was wrong with some of them, which no other worker could do better; None if all are
        trained, or were stopped because the command was.

    Raises:
        OSError: store, folder or checkpoints cannot be reached; Dask tries again.
    """
    from distributed import get_worker

    worker = get_worker()
    try:
        device = _device_here(order, members[0]["device"], worker)
        check_kind(order.kind, kind_of(device), worker.address)
    except ValueError as error:  # of a worker that came late: another may do it
        raise OSError(str(error)) from error
    group = [TrainSettings.model_validate(values) for values in members]
    number_of = {settings.out: n for settings, n in zip(group, numbers, strict=True)}

    def tell(settings: TrainSettings, line: dict[str, Any]) -> None:
        worker.log_event(order.sweep, {"number": number_of[settings.out], "line": line})

    with _ONE_AT_A_TIME, hidden_progress():
        torch.set_num_threads(order.n_threads)
        stop = _stop(worker, str(worker.get_current_task()), order.sweep)
        try:
            # One that was taken for dead may still hold a folder: until it has ended.
            run(group, order.resume, watch=tell, wait=True, stop=stop)
        except ValueError as error:
            return str(error)
        except KeyboardInterrupt:  # stopped, with checkpoints
            return None
    return None


def _stop(worker: Any, key: str, sweep: str) -> Callable[[], bool]:
    """Whether the sweep is to end, or nobody waits for this task any more: its command is gone."""

    def stop() -> bool:
        task = worker.state.tasks.get(key)
        return sweep in _STOPPED or task is None or task.state == "cancelled"

    return stop


def _device_here(order: SweepOrder, device: str, worker: Any) -> torch.device:
    """This worker's device, begun with.

    Raises:
        ValueError: it has other versions than the command, or no such device.
    """
    if changed := differences(order.versions, versions()):
        raise ValueError(
            f"every worker must have the command's versions, one has {'; '.join(changed)}; start "
            "all in one environment"
        )
    _take_device(order, worker)
    return find_device(device)


def _take_device(order: SweepOrder, worker: Any) -> None:
    """Shows this process its one device, before CUDA is begun in it."""
    if order.devices:
        os.environ["CUDA_VISIBLE_DEVICES"] = order.devices[int(worker.name)]
