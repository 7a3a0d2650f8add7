"""Cuts a sweep's members into groups; a Dask worker trains the members of a group at once.

A group reads one stream, so that each batch is read and decoded once. A stream gets as many groups
as give every worker a fair share of the work, and more if memory needs it. Pure functions: the same
members and number of workers give the same groups.
"""

from collections.abc import Callable, Sequence

from ..run.trainer import SHARED
from ..settings import TrainSettings

Group = list[TrainSettings]

_GIB = 1 << 30


def by_stream(members: Sequence[TrainSettings]) -> list[Group]:
    """The members, grouped by the stream that they read (`SHARED` settings equal)."""
    streams: dict[tuple[str, ...], Group] = {}
    for settings in members:
        key = tuple(str(getattr(settings, name)) for name in SHARED)
        streams.setdefault(key, []).append(settings)
    return list(streams.values())


def groups_of(
    streams: Sequence[Group], n_workers: int, bytes_of: Callable[[Group], int], worker_bytes: int
) -> list[Group]:
    """Cuts streams into groups, the one with most work first.

    Args:
        streams: members that read one stream each.
        n_workers: workers that share the work.
        bytes_of: memory that a group needs.
        worker_bytes: bytes that each worker has.

    Raises:
        ValueError: a member does not fit a worker even alone.
    """
    total = sum(map(work, streams))
    found: list[Group] = []
    for stream in streams:
        n = min(len(stream), -(-work(stream) * n_workers // total))
        while any(bytes_of(part) > worker_bytes for part in _dealt(stream, n)):
            if n == len(stream):
                raise ValueError(_too_large(stream, bytes_of, worker_bytes))
            n += 1
        found += _dealt(stream, n)
    return sorted(found, key=work, reverse=True)


def work(members: Sequence[TrainSettings]) -> int:
    """The work of training, as the number of entries of z: width × batch × steps."""
    return sum(one.width * one.batch * one.steps for one in members)


def _dealt(stream: Group, n: int) -> list[Group]:
    """A stream's members in n groups: the largest first, each to the group with least work; within
    a group in their own order."""
    parts: list[list[int]] = [[] for _ in range(n)]
    loads = [0] * n
    for i in sorted(range(len(stream)), key=lambda i: -work([stream[i]])):
        lightest = loads.index(min(loads))
        parts[lightest].append(i)
        loads[lightest] += work([stream[i]])
    return [[stream[i] for i in sorted(part)] for part in parts]


def _too_large(stream: Group, bytes_of: Callable[[Group], int], worker_bytes: int) -> str:
    """The error's text: what the largest member needs, and what a worker has."""
    largest = max(stream, key=lambda one: bytes_of([one]))
    return (
        f"memory must hold {bytes_of([largest]) / _GIB:.1f} GiB for {largest.out.name} (width "
        f"{largest.width}, batch {largest.batch}) on every worker, got {worker_bytes / _GIB:.1f} "
        "GiB a worker; take fewer workers a device, or a lower width or batch"
    )
