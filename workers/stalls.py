"""Stalls: which tasks of a cluster have been on one worker for too long.

Owns the time limits. The stages ask the scheduler, and run a stalled task again on another worker.
"""

from collections.abc import Iterable, Mapping

STALLED_S = 600.0
"""No task counts as stalled sooner: workers load a model before their first task."""

_TIMES_LONGEST = 5.0
"""A task is stalled only if it takes this many times as long as the longest finished task."""


class Stalls:
    """The time since which each worker has each of its tasks."""

    def __init__(self, stalled_s: float = STALLED_S):
        self._stalled_s = stalled_s
        self._since: dict[tuple[str, str], float] = {}
        self._named: set[tuple[str, str]] = set()
        self._longest = 0.0

    def finished(self, key: str, now: float) -> None:
        """Records that a task is done, and its duration, which raises the limit for the others."""
        for place, since in list(self._since.items()):
            if place[0] == key:
                self._longest = max(self._longest, now - since)
                del self._since[place]

    def look(self, processing: Mapping[str, Iterable[str]], now: float) -> list[tuple[str, str]]:
        """(task, worker) for the tasks that are stalled and were not returned before.

        Args:
            processing: worker -> keys of the tasks that it has, as the scheduler reports them.
            now: seconds of a monotonic clock.
        """
        present = {(key, worker) for worker, keys in processing.items() for key in keys}
        self._since = {place: self._since.get(place, now) for place in present}
        limit = max(self._stalled_s, _TIMES_LONGEST * self._longest)
        found = sorted(place for place, since in self._since.items() if now - since > limit)
        new = [place for place in found if place not in self._named]
        self._named.update(new)
        return new
