"""Where a sweep's groups run, from `--dask` or `--devices`.

`--devices` is short for a local cluster with a worker for each device. Also checks what all workers
must have in common.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from ...settings import differences
from ...workers.cluster import check_cluster, n_local_workers
from ..settings import TrainSettings

if TYPE_CHECKING:
    import torch

_DEVICE = re.compile(r"cpu|cuda(?::(\d{1,4}))?")


@dataclass(frozen=True)
class Devices:
    """A cluster and what its workers see.

    Attributes:
        dask: local:N, a scheduler's address or a scheduler file.
        visible: CUDA_VISIBLE_DEVICES of each worker of a local cluster; empty if workers have
            devices of their own.
    """

    dask: str
    visible: tuple[str, ...] = ()


def devices_of(
    dask: str | None, names: str | None, members: Sequence[TrainSettings]
) -> Devices | None:
    """Where members are trained, by `--dask` or `--devices`; None for this process.

    Raises:
        ValueError: both are given, dask names no cluster, or a device does not exist.
    """
    if dask is not None and names is not None:
        raise ValueError(
            f"devices must stand without dask, got {names} beside --dask {dask}; a worker of a "
            "cluster has the device that it was started with"
        )
    named = sorted({settings.device for settings in members})
    if (dask or names) and len(named) > 1:
        raise ValueError(
            f"device must be equal for all members of a sweep, got {', '.join(named)}; leave it "
            "out: a worker has one"
        )
    if dask is not None:
        check_cluster(dask)
        return Devices(dask, _one_each(n_local_workers(dask), members))
    if names is None:
        return None
    if any(settings.device != "auto" for settings in members):
        raise ValueError("device has no effect beside devices, which names them; leave it out")
    found = tuple(_visible(name.strip()) for name in names.split(","))
    return Devices(f"local:{len(found)}", found)


def kind_of(device: "torch.device") -> dict[str, str]:
    """What else bits depend on: the kind of device, and the version of the library that compiles
    its kernels."""
    library = "numba" if device.type == "cpu" else "triton"
    try:
        found = version(library)
    except PackageNotFoundError:  # the reference kernel needs none
        found = "none"
    return {"device": device.type, library: found}


def check_kind(wanted: dict[str, str], found: dict[str, str], where: str) -> None:
    """Raises ValueError for a worker whose bits would differ from the others'."""
    if changed := differences(wanted, found):
        raise ValueError(
            f"every worker must have the same kind of device and libraries, the one at {where} has "
            f"{'; '.join(changed)}; name a device with --device, or start all workers alike"
        )


def _one_each(n_workers: int, members: Sequence[TrainSettings]) -> tuple[str, ...]:
    """The GPUs of this machine, dealt to the workers of a local cluster."""
    import torch

    n_devices = torch.cuda.device_count()
    if n_devices < 2 or any(settings.device != "auto" for settings in members):
        return ()
    return tuple(_visible(f"cuda:{i % n_devices}") for i in range(n_workers))


def _visible(name: str) -> str:
    """The CUDA_VISIBLE_DEVICES that shows only this device; "" for a CPU."""
    import torch

    match = _DEVICE.fullmatch(name)
    if match is None:
        raise ValueError(
            f"devices must be cpu, cuda or cuda:N with commas between them, got {name!r}"
        )
    if name == "cpu":
        return ""
    index, n_devices = int(match[1] or 0), torch.cuda.device_count()
    if index >= n_devices:
        raise ValueError(
            f"devices must be there, got {name} on a machine with {n_devices} CUDA devices; pass "
            "--devices cpu,cpu for two processes on the CPU"
        )
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    return shown.split(",")[index].strip() if shown else str(index)
