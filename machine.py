"""The machine: its devices, the dtypes they compute fast, free memory and disk, threads.

All stages ask here. Answers follow from what the system reports, never from timing, so that a rerun
gets the same answers. `control_groups` reads the limits of containers, `caches` places caches.
Torch is imported only where it is needed.
"""

import ctypes
import math
import os
import platform
import shutil
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from .caches import place_caches
from .control_groups import core_quota, memory_left

if TYPE_CHECKING:
    import torch

DTYPES = ("bfloat16", "float32")
"""Dtypes in which a language model may run."""

_CPUINFO = Path("/proc/cpuinfo")
_FLAG_LINES = ("flags", "Features")  # on x86, on ARM
_BFLOAT16_UNITS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Linux's flags for processors with bfloat16 units: x86 (the first two) and ARM."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT_BYTES, _LARGEST_KEPT_BYTES = 2**30, 2**28


def find_device(name: "str | torch.device") -> "torch.device":
    """The torch device of a name, or the device that is given; `auto` is CUDA if there is a CUDA
    device, otherwise the CPU.

    Raises:
        ValueError: torch does not know the device, or this machine does not have it.
    """
    import torch

    rule = f"device must be auto, cpu or a device that torch can use, got {name!r:.80}"
    if not isinstance(name, str | torch.device):
        raise ValueError(rule)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        n_devices = {"cpu": 1, "cuda": torch.cuda.device_count()}.get(device.type)
        if n_devices is None:
            torch.empty(0, device=device).cpu()  # of `meta` nothing comes back
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"{rule} ({str(error).splitlines()[0]})") from error
    if n_devices is not None and (device.index or 0) >= n_devices:
        raise ValueError(
            f"device must be there, got {name} on a machine with {n_devices} "
            f"{device.type.upper()} devices; use cpu"
        )
    return device


@cache
def cpu_flags() -> frozenset[str]:
    """Linux's flags that all processors of this machine have; empty if the system lists none."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    named = [line.partition(":") for line in lines]
    found = [set(words.split()) for name, _, words in named if name.strip() in _FLAG_LINES]
    return frozenset(set.intersection(*found)) if found else frozenset()


@cache
def processor() -> str:
    """The processor's model name from Linux; the architecture if there is no such name."""
    with suppress(OSError):
        for line in _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.machine()


def has_bfloat16_units() -> bool:
    """Whether the processor multiplies bfloat16 in hardware. Then bfloat16 products take half as
    long as float32 ones; otherwise 8 to 20 times as long."""
    return bool(_BFLOAT16_UNITS & cpu_flags())


def good_dtype(device: str) -> str:
    """The fastest dtype for a language model on a type of device: "bfloat16" on CUDA and on
    processors with bfloat16 units, otherwise "float32"."""
    fast = device == "cuda" or (device == "cpu" and has_bfloat16_units())
    return "bfloat16" if fast else "float32"


def available_cores() -> int:
    """Number of cores that this process may use: those it is bound to, or fewer if its control
    group (its container) has a quota of processor time. Python and OpenMP ignore such quotas."""
    bound, quota = _bound_cores(), core_quota()
    return bound if quota is None else max(1, min(bound, math.ceil(quota)))


def _bound_cores() -> int:
    """Number of cores on which the system lets this process run."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory(device: "torch.device") -> int:
    """Free bytes of a device's memory; for the CPU, within the limits of its control groups. Cached
    files count as free."""
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0]
    import psutil

    free, left = psutil.virtual_memory().available, memory_left()
    return free if left is None else min(free, left)


def free_disk(path: Path) -> int:
    """Free bytes on the disk of a file or folder, which need not exist yet."""
    return shutil.disk_usage(nearest(path)).free


def nearest(path: Path) -> Path:
    """The path if it exists, otherwise the nearest folder above it that exists."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if place.exists())


def prepare() -> None:
    """Sets environment variables that libraries read when they are imported; call it before torch
    is imported. Variables that the user has set are kept.

    OpenMP's waiting threads sleep, and there are at most as many as cores. Caches go to a folder
    that can be written.
    """
    # Spinning threads would keep the kernels' own threads off the cores, and on a busy machine each
    # other.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if available_cores() < _bound_cores():
        os.environ.setdefault("OMP_NUM_THREADS", str(available_cores()))
    place_caches()


@cache
def keep_freed_memory() -> bool:
    """Lets this process keep up to 1 GiB of freed memory, in pieces of up to 256 MiB, for later
    allocations. Takes effect once per process.

    By default glibc may give the larger temporaries of a forward pass back to the system as soon as
    they are freed, depending on earlier allocations. Then every page faults again in the next
    layer. On two cores this took between nothing and half of the time of a forward pass.

    Returns:
        Whether the memory allocator supports it (only glibc does).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    found = [
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES),
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES),
    ]
    return found == [1, 1]


def give_back_memory() -> bool:
    """Gives freed memory back to the system at once.

    glibc keeps freed memory that is between pieces still in use. So a process that does several
    large tasks one after the other would hold nearly the sum of their memory.

    Returns:
        Whether memory was given back (only glibc can).
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return False
    return bool(trim(0))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out; on a CPU torch raises a plain RuntimeError."""
    import torch

    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or "can't allocate memory" in str(error)
