"""Control groups: the limits of memory and processor time that containers set for this process.

A group's limit also holds for the groups inside it, so all groups up the tree are read, for both
versions of Linux's control groups. Inside a container, the groups above the container's root cannot
be seen and are left out.
"""

from collections.abc import Iterator
from pathlib import Path

_GROUPS, _ROOT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")

_MEMORY = (
    ("memory.max", "memory.current", "{}"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_{}"),
)
"""Files of versions 2 and 1: limit, use, and the form of a whole group's entries in
`memory.stat`."""
_CACHED = ("active_file", "inactive_file")
"""Entries for cached files: they count as used, but the system frees them before it refuses
memory."""


def memory_left() -> int | None:
    """Bytes left below the tightest limit, with cached files counted as free; None if no limit."""
    left = (_left(folder, *names) for folder in _folders("memory") for names in _MEMORY)
    return min((n_bytes for n_bytes in left if n_bytes is not None), default=None)


def core_quota() -> float | None:
    """Processor time of the tightest quota, in cores; None if there is no quota."""
    quotas = (quota for folder in _folders("cpu") for quota in _quotas(folder))
    return min(quotas, default=None)


def _folders(controller: str) -> Iterator[Path]:
    """Folders of this process's groups, from the innermost to the root."""
    for line in _read(_GROUPS).splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = _ROOT / controller if controllers else _ROOT  # version 2 has one tree for all
        inner = root / group.lstrip("/")
        yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(root))


def _left(folder: Path, limit: str, used: str, entry: str) -> int | None:
    """Bytes that a group may still use; None if it has no limit, or is of the other version."""
    try:
        free = int(_read(folder / limit)) - int(_read(folder / used))
    except ValueError:  # "max", or no such file
        return None
    pairs = (line.split() for line in _read(folder / "memory.stat").splitlines())
    sizes = dict(pair for pair in pairs if len(pair) == 2)
    return max(0, free + sum(int(sizes.get(entry.format(name), 0)) for name in _CACHED))


def _quotas(folder: Path) -> Iterator[float]:
    """A group's quota divided by its period, from the files of either version."""
    old = f"{_read(folder / 'cpu.cfs_quota_us')} {_read(folder / 'cpu.cfs_period_us')}"
    for text in (_read(folder / "cpu.max"), old):
        try:
            quota, period = map(int, text.split())
        except ValueError:  # "max 100000", or no such file
            continue
        if quota > 0 and period > 0:  # version 1 writes -1 for none
            yield quota / period


def _read(path: Path) -> str:
    """A file's text; "" if it does not exist or may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
