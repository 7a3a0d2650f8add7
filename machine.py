"""The machine: which devices it has, what they are good at, what is free on it, how threads wait.

Asked here once, for every stage. Answers follow from what the system says of itself, never from
timing, so that a rerun chooses alike. Containers are `control_groups`', caches `caches`'. Imports
nothing heavy before it is used.
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
"""What a language model may be run in."""

_CPUINFO = Path("/proc/cpuinfo")
_FLAG_LINES = ("flags", "Features")  # on x86, on ARM
_BFLOAT16_UNITS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""What Linux calls them on x86 (the first two) and on ARM."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT_BYTES, _LARGEST_KEPT_BYTES = 2**30, 2**28


def find_device(name: str) -> "torch.device":
    """The torch device meant by `auto` (CUDA where there is one) or by a name.

    Raises:
        ValueError: torch knows no such device, or this machine has none.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        n_devices = {"cpu": 1, "cuda": torch.cuda.device_count()}.get(device.type)
        if n_devices is None:
            torch.empty(0, device=device).cpu()  # of `meta` nothing comes back
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"device must be auto, cpu or a device that torch can use, got {name!r} "
            f"({str(error).splitlines()[0]})"
        ) from error
    if n_devices is not None and (device.index or 0) >= n_devices:
        raise ValueError(
            f"device must be there, got {name} on a machine with {n_devices} "
            f"{device.type.upper()} devices; use --device cpu"
        )
    return device


@cache
def cpu_flags() -> frozenset[str]:
    """What all processors of this machine can do, in Linux's words; empty where it does not say."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    named = [line.partition(":") for line in lines]
    found = [set(words.split()) for name, _, words in named if name.strip() in _FLAG_LINES]
    return frozenset(set.intersection(*found)) if found else frozenset()


@cache
def processor() -> str:
    """The kind of this machine's processor, in Linux's words; the architecture where it does not
    say."""
    with suppress(OSError):
        for line in _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.machine()


def has_bfloat16_units() -> bool:
    """Whether the processor multiplies bfloat16 in hardware. Without, its bfloat16 products take 8
    to 20 times as long as float32's; with, half as long."""
    return bool(_BFLOAT16_UNITS & cpu_flags())


def good_dtype(device: str) -> str:
    """The dtype that a language model is best run in on a type of device: "bfloat16" on CUDA and on
    processors with units for it, else "float32"."""
    fast = device == "cuda" or (device == "cpu" and has_bfloat16_units())
    return "bfloat16" if fast else "float32"


def available_cores() -> int:
    """Cores that this process may use: those it is bound to, less where its control group has a
    quota of processor time (as containers do), which neither Python nor OpenMP looks at."""
    bound, quota = _bound_cores(), core_quota()
    return bound if quota is None else max(1, min(bound, math.ceil(quota)))


def _bound_cores() -> int:
    """Cores that the system would let this process's threads run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory(device: "torch.device") -> int:
    """Bytes that a device could still give; on a CPU, what the machine and its control groups
    leave. Cached files count as free."""
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0]
    import psutil

    free, left = psutil.virtual_memory().available, memory_left()
    return free if left is None else min(free, left)


def free_disk(path: Path) -> int:
    """Bytes that are free on the disk where a file or folder is, or would be."""
    return shutil.disk_usage(nearest(path)).free


def nearest(path: Path) -> Path:
    """The path if it is there, else the nearest folder above that is."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if place.exists())


def prepare() -> None:
    """Settings that libraries read from the environment when they are imported; to be called before
    torch is. What the user has set stays.

    OpenMP's threads sleep while they wait: spinning, they would keep the kernels' own threads, and
    each other beside any busy process, off the cores. There are no more of them than cores. Caches
    go to a folder that can be written.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if available_cores() < _bound_cores():
        os.environ.setdefault("OMP_NUM_THREADS", str(available_cores()))
    place_caches()


@cache
def keep_freed_memory() -> bool:
    """Lets this process keep up to 1 GiB of freed memory, in pieces of up to 256 MiB, for what is
    allocated next; whether that can be asked for here (glibc only). Once a process.

    glibc gives the larger temporaries of a forward pass back to the system as soon as they are
    freed, or does not, as earlier allocations have left its thresholds; every page then faults
    again in the next layer. On two cores that cost a forward pass anything from nothing to a half
    of its time.
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
    """Gives freed memory back to the system at once; whether that can be asked for here (glibc
    only).

    glibc keeps what was freed between pieces still in use, so that a process that does one large
    thing after another holds nearly the sum of them.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return False
    return bool(trim(0))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed; on a CPU torch raises a bare RuntimeError for it."""
    import torch

    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or "can't allocate memory" in str(error)
