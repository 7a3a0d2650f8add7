"""The Dask task that trains a group of a sweep's members on a worker.

Owns what happens on the worker: its device, its threads, its messages while it trains, and how it
is stopped. `on_dask` makes the groups and waits for them.
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
from ...store.place.ownership import owned
from ...version import __version__
from ...workers.stalls import STALLED_S
from ..run.trainer import run
from ..settings import TrainSettings
from .devices import check_kind, kind_of

_ONE_AT_A_TIME = Lock()
"""A worker with several threads still has one device: it trains one group at a time."""

_STOPPED: set[str] = set()
"""Names of the sweeps that must end."""


class SweepOrder(Settings):
    """What all tasks of a sweep have in common."""

    sweep: str
    """The sweep's name on the cluster, under which workers report progress."""
    resume: bool
    """As in `trainer.run`."""
    n_threads: int
    """The command's number of torch threads: with another number sums round differently."""
    devices: tuple[str, ...]
    """CUDA_VISIBLE_DEVICES of every worker by its number; empty if workers have devices of their
    own."""
    versions: dict[str, str]
    """The command's versions: with others a member's bits would differ."""
    kind: dict[str, str] = Field(default_factory=dict)
    """The first workers' kind of device and library: with others bits would differ too."""


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
    """Makes this worker's task of a sweep end, with checkpoints."""
    _STOPPED.add(sweep)


def train_group(
    order: SweepOrder, numbers: Sequence[int], members: list[dict[str, Any]]
) -> str | None:
    """The task: trains members, or continues them from their checkpoints.

    Args:
        order: of the sweep.
        numbers: the members' numbers in the sweep.
        members: their settings, storage options included.

    Returns:
        An error that other workers would meet too; None if all members are trained, or if the sweep
        was stopped.

    Raises:
        OSError: store, folder or checkpoints cannot be reached; Dask tries again.
    """
    from distributed import get_worker

    worker = get_worker()
    try:
        device = _device_here(order, members[0]["device"], worker)
        check_kind(order.kind, kind_of(device), worker.address)
    except ValueError as error:  # a worker that joined late and differs: Dask tries another
        raise OSError(str(error)) from error
    group = [TrainSettings.model_validate(values) for values in members]
    number_of = {settings.out: n for settings, n in zip(group, numbers, strict=True)}

    def tell(settings: TrainSettings, line: dict[str, Any]) -> None:
        worker.log_event(order.sweep, {"number": number_of[settings.out], "line": line})

    with _ONE_AT_A_TIME, hidden_progress():
        torch.set_num_threads(order.n_threads)
        stop = _stop(worker, str(worker.get_current_task()), order.sweep)
        try:
            # Wait: a worker that was taken for dead may still hold a folder until it ends.
            for settings in group:
                with owned(settings.out, wait=True, limit_s=STALLED_S):
                    pass
            run(group, order.resume, watch=tell, wait=True, stop=stop)
        except ValueError as error:
            return str(error)
        except KeyboardInterrupt:  # stopped, with checkpoints
            return None
    return None


def _stop(worker: Any, key: str, sweep: str) -> Callable[[], bool]:
    """The function that says whether to stop: the sweep must end, or the command is gone and no one
    waits for this task."""

    def stop() -> bool:
        task = worker.state.tasks.get(key)
        return sweep in _STOPPED or task is None or task.state == "cancelled"

    return stop


def _device_here(order: SweepOrder, device: str, worker: Any) -> torch.device:
    """This worker's device, made visible to it.

    Raises:
        ValueError: the worker has other versions than the command, or no such device.
    """
    if changed := differences(order.versions, versions()):
        raise ValueError(
            f"every worker must have the command's versions, one has {'; '.join(changed)}; start "
            "all in one environment"
        )
    _take_device(order, worker)
    return find_device(device)


def _take_device(order: SweepOrder, worker: Any) -> None:
    """Makes only this worker's device visible, before CUDA starts in this process."""
    if order.devices:
        os.environ["CUDA_VISIBLE_DEVICES"] = order.devices[int(worker.name)]
