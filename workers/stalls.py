"""Stalls: which tasks of a cluster have been with one worker for too long.

Owns the clock. Asking the scheduler and beginning a task again elsewhere is the stages'.
"""

from collections.abc import Iterable, Mapping

STALLED_S = 600.0
"""No task is called stalled sooner: workers load a model before their first one."""

_TIMES_LONGEST = 5.0


class Stalls:
    """Tasks by the worker that has them and the time since it does."""

    def __init__(self, stalled_s: float = STALLED_S):
        self._stalled_s = stalled_s
        self._since: dict[tuple[str, str], float] = {}
        self._named: set[tuple[str, str]] = set()
        self._longest = 0.0

    def finished(self, key: str, now: float) -> None:
        """Notes that a task is done: none of its size stalls before it took some times as long."""
        for place, since in list(self._since.items()):
            if place[0] == key:
                self._longest = max(self._longest, now - since)
                del self._since[place]

    def look(self, processing: Mapping[str, Iterable[str]], now: float) -> list[tuple[str, str]]:
        """(task, worker) of the tasks that have newly turned out to be stalled.

        Args:
            processing: worker -> keys of the tasks it has, as the scheduler says.
            now: seconds on a clock that never goes back.
        """
        present = {(key, worker) for worker, keys in processing.items() for key in keys}
        self._since = {place: self._since.get(place, now) for place in present}
        limit = max(self._stalled_s, _TIMES_LONGEST * self._longest)
        found = sorted(place for place, since in self._since.items() if now - since > limit)
        new = [place for place in found if place not in self._named]
        self._named.update(new)
        return new
