"""Control groups: what the containers that this process is in leave it of memory and cores.

A group's limit holds for every group inside it, so all groups up the tree are asked, in either of
Linux's versions. A group that cannot be seen from inside a container is not asked; what the
container sees as its root is.
"""

from collections.abc import Iterator
from pathlib import Path

_GROUPS, _ROOT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")

_MEMORY = (
    ("memory.max", "memory.current", "{}"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_{}"),
)
"""Files of version 2 and 1: limit, use, and how `memory.stat` names entries of a whole group."""
_CACHED = ("active_file", "inactive_file")
"""Cached files: part of the use, and given up before anything else is refused."""


def memory_left() -> int | None:
    """Bytes up to the nearest limit, where cached files count as free; None without a limit."""
    left = (_left(folder, *names) for folder in _folders("memory") for names in _MEMORY)
    return min((n_bytes for n_bytes in left if n_bytes is not None), default=None)


def core_quota() -> float | None:
    """Cores' worth of processor time in the tightest quota; None without one."""
    quotas = (quota for folder in _folders("cpu") for quota in _quotas(folder))
    return min(quotas, default=None)


def _folders(controller: str) -> Iterator[Path]:
    """The groups that this process is in, from the innermost to the root."""
    for line in _read(_GROUPS).splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = _ROOT / controller if controllers else _ROOT  # version 2 has one tree for all
        inner = root / group.lstrip("/")
        yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(root))


def _left(folder: Path, limit: str, used: str, entry: str) -> int | None:
    """Bytes that a group may still take; None if it has no limit, or is of the other version."""
    try:
        free = int(_read(folder / limit)) - int(_read(folder / used))
    except ValueError:  # "max", or no such file
        return None
    pairs = (line.split() for line in _read(folder / "memory.stat").splitlines())
    sizes = dict(pair for pair in pairs if len(pair) == 2)
    return max(0, free + sum(int(sizes.get(entry.format(name), 0)) for name in _CACHED))


def _quotas(folder: Path) -> Iterator[float]:
    """A group's quota over its period, in whichever version's files it is."""
    old = f"{_read(folder / 'cpu.cfs_quota_us')} {_read(folder / 'cpu.cfs_period_us')}"
    for text in (_read(folder / "cpu.max"), old):
        try:
            quota, period = map(int, text.split())
        except ValueError:  # "max 100000", or no such file
            continue
        if quota > 0 and period > 0:  # version 1 writes -1 for none
            yield quota / period


def _read(path: Path) -> str:
    """A file's text; "" if there is none, or none that may be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
