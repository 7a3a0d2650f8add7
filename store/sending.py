"""Sending objects to a place far away while the next ones are being made.

Owns which objects are under way and how many bytes they hold. A put to an object store takes as
long as its connection is slow; one after the other they would hold the writer up.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

from .location import Location, joined

_CONNECTIONS = 8


class Shelf(Protocol):
    """Where a bucket's shards are put: a `Location`, or one whose writes go on in the
    background."""

    def write(self, key: str, parts: Iterable[bytes | memoryview]) -> None:
        """See `Location.write`."""
        ...

    def flush(self, keys: Iterable[str]) -> None:
        """See `Location.flush`."""
        ...


@contextmanager
def shelf(location: Location, max_bytes: int) -> Iterator[Shelf]:
    """A place for the shards of a bucket; after the block nothing is under way any more.

    Args:
        max_bytes: of objects under way, which are held in memory until they are stored; at least
            one always is.
    """
    if location.streams_writes:
        yield location
        return
    sending = _Sending(location, max_bytes)
    try:
        yield sending
    finally:
        sending.end()


class _Sending:
    """Writes in the background; `flush` waits for all and raises what went wrong."""

    def __init__(self, location: Location, max_bytes: int):
        self._location, self._max_bytes = location, max_bytes
        self._pool = ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="scopeworks-send")
        self._pending: deque[tuple[Future[None], int]] = deque()

    def write(self, key: str, parts: Iterable[bytes | memoryview]) -> None:
        """Takes all parts and returns while they are sent."""
        data = joined(parts)
        while self._pending and self._held() + len(data) > self._max_bytes:
            self._finish_one()
        sent = self._pool.submit(self._location.write, key, [data])
        self._pending.append((sent, len(data)))

    def flush(self, keys: Iterable[str]) -> None:
        """Waits until everything is stored.

        Raises:
            OSError: something could not be.
        """
        while self._pending:
            self._finish_one()
        self._location.flush(keys)

    def end(self) -> None:
        """Waits for what is under way, gives up what has not begun."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _held(self) -> int:
        return sum(n_bytes for _, n_bytes in self._pending)

    def _finish_one(self) -> None:
        """Waits for the oldest."""
        sent, _ = self._pending.popleft()
        sent.result()
