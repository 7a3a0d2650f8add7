"""Silence: which workers of a cluster have not been heard from for too long.

Owns the time limit. A worker tells the scheduler twice a second that it is there. One that is
halted, or whose machine is lost without a word, keeps its connections and so its tasks.
"""

from collections.abc import Mapping

DASKS_TTL_S = 300.0
"""Dask's own limit (`worker-ttl`) unless it is configured, at which Dask looks once in as many
seconds and without a word to the command."""

SILENT_S = DASKS_TTL_S
"""A worker that is silent for so long is given up."""


class Silence:
    """The time since which each worker has not been heard from."""

    def __init__(self, silent_s: float = SILENT_S):
        self._silent_s = silent_s
        self._heard: dict[str, tuple[float, float]] = {}
        self._looked = 0.0

    def look(self, seen: Mapping[str, float], now: float) -> list[str]:
        """The workers that have been silent for too long.

        Args:
            seen: worker -> when the scheduler heard from it, by the scheduler's clock. Only whether
                it changes counts, since clocks differ.
            now: seconds of a monotonic clock.
        """
        if now - self._looked > self._silent_s / 2:  # this process was halted itself
            self._heard = {}
        self._looked = now
        before = self._heard
        self._heard = {
            worker: before[worker] if before.get(worker, (None, now))[0] == mark else (mark, now)
            for worker, mark in seen.items()
        }
        return [w for w, (_, since) in self._heard.items() if now - since > self._silent_s]
