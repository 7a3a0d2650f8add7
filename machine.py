"""The machine: what its processor is good at, how threads wait on it, and where caches may lie.

Asked here once, for every stage. Answers follow from what the system says of itself, never from
timing, so that a rerun chooses alike. Imports nothing of ours, and nothing heavy before it is used.
"""

import ctypes
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])

DTYPES = ("bfloat16", "float32")
"""What a language model may be run in."""

_CPUINFO, _CGROUP = Path("/proc/cpuinfo"), Path("/sys/fs/cgroup")
_FLAG_LINES = ("flags", "Features")  # on x86, on ARM
_BFLOAT16_UNITS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""What Linux calls them on x86 (the first two) and on ARM."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT_BYTES, _LARGEST_KEPT_BYTES = 2**30, 2**28

_CACHES = {"MPLCONFIGDIR": "matplotlib", "TRITON_CACHE_DIR": "triton"}
"""Caches that end or warn where they cannot be written: variable -> folder."""


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
    bound = _bound_cores()
    try:
        quota, period = (_CGROUP / "cpu.max").read_text(encoding="utf-8").split()
        return max(1, min(bound, -(-int(quota) // int(period))))
    except (OSError, ValueError):
        return bound  # no control group, or one without a quota ("max")


def _bound_cores() -> int:
    """Cores that the system would let this process's threads run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
    if _is_writable(_user_caches()):
        return
    folder = _private_folder()
    if folder is not None:
        for variable, name in _CACHES.items():
            os.environ.setdefault(variable, str(folder / name))


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


def compiled(*signatures: str, version: str = "", **options: Any) -> Callable[[Function], Function]:
    """Compiles a function with numba, cached on disk where that can be done.

    Args:
        signatures: what to compile at once; none leaves it to the first call.
        version: what the code depends on besides the file that it stands in, as a folder's name.
        options: numba's own.
    """

    def decorate(function: Function) -> Function:
        import numba

        dispatcher = numba.njit(**options)(function)
        _keep_on_disk(dispatcher, function, version)
        for signature in signatures:
            dispatcher.compile(signature)
        if signatures:
            dispatcher.disable_compile()
        return cast(Function, dispatcher)

    return decorate


def _keep_on_disk(dispatcher: Any, function: Any, version: str) -> None:
    """Lets numba keep a function's code: where the user says, beside the source, in a folder for
    caches, or nowhere. A cache that cannot be read or written later ends nothing either."""
    from numba.core import config

    settings = cast(Any, config)
    before, beside = settings.CACHE_DIR, Path(function.__code__.co_filename).parent / "__pycache__"
    for place in _code_places(Path(before) if before else beside):
        if not _can_be_written(place / version):
            continue
        settings.CACHE_DIR = str(place / version)
        try:
            dispatcher.enable_caching()
        except RuntimeError:  # numba's own look at the folder
            continue
        finally:
            settings.CACHE_DIR = before
        for name in ("load_overload", "save_overload"):
            setattr(dispatcher._cache, name, _optional(getattr(dispatcher._cache, name)))
        return


def _code_places(first: Path) -> Iterator[Path]:
    """Where compiled code may lie, the best place first; those behind are made only if need be."""
    yield first
    for home in (_user_caches, _private_folder):
        folder = home()
        if folder is not None:
            yield folder / "numba"


def _optional(call: Callable[..., Any]) -> Callable[..., Any]:
    """A cache's method, for which a full disk or a missing right means that nothing is there."""

    def tried(*arguments: Any) -> Any:
        try:
            return call(*arguments)
        except OSError:
            return None

    return tried


def _can_be_written(folder: Path) -> bool:
    """Whether a folder is there, made now if need be, and can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _user_caches() -> Path | None:
    """The user's folder for caches, which need not exist; None where there is no home."""
    named = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(named) if named else Path.home() / ".cache"
    except RuntimeError:  # no HOME, and a user that the system does not know
        return None


def _is_writable(folder: Path | None) -> bool:
    """Whether a folder can be written, or made; nothing is."""
    if folder is None:
        return False
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        return there.is_dir() and os.access(there, os.W_OK)
    except OSError:  # a parent that may not be looked into
        return False


@cache
def _private_folder() -> Path | None:
    """A folder for caches in the temporary folder that nobody else can write to, since what is in
    it is run; None if there can be none."""
    user = getattr(os, "getuid", lambda: 0)()
    try:
        folder = Path(tempfile.gettempdir()) / f"scopeworks-{user}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    others = stat.S_IWGRP | stat.S_IWOTH
    mine = stat.S_ISDIR(found.st_mode) and found.st_uid == user and not found.st_mode & others
    return folder if mine else None
