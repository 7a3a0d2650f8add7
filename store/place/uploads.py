"""Sending objects to a place far away while the next ones are being made.

Owns which objects are under way and how many bytes they hold. A put to an object store takes as
long as its connection is slow; one after the other they would hold the writer up.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Protocol

from .location import Location, joined

_CONNECTIONS = 8


class Sink(Protocol):
    """Where a bucket's shards go: a `Location`, or one whose writes go on in the background."""

    def write(self, key: str, parts: Iterable[bytes | memoryview]) -> None:
        """See `Location.write`."""
        ...

    def flush(self, keys: Iterable[str]) -> None:
        """See `Location.flush`."""
        ...


@contextmanager
def sending(location: Location, max_bytes: int) -> Iterator[Sink]:
    """Where the shards of a bucket are to be written to; the end of the block waits for what is
    still under way.

    Args:
        max_bytes: of objects under way, which are held in memory until they are stored, besides the
            one that is being made; at least one always is under way.
    """
    if location.streams_writes:
        yield location
        return
    sink = _Sending(location, max_bytes)
    try:
        yield sink
    finally:
        sink.end()


class _Sending:
    """Writes in the background; `flush` waits for all and raises what went wrong."""

    def __init__(self, location: Location, max_bytes: int):
        self._location, self._max_bytes = location, max_bytes
        self._pool = ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="scopeworks-send")
        self._under_way: dict[Future[None], int] = {}
        """Puts -> their bytes."""

    def write(self, key: str, parts: Iterable[bytes | memoryview]) -> None:
        """Takes all parts and returns while they are sent.

        Raises:
            OSError: something before could not be stored.
        """
        data = joined(parts)
        self._forget_done()
        while self._under_way and sum(self._under_way.values()) + len(data) > self._max_bytes:
            self._finish_one()
        sent = self._pool.submit(self._location.replace, key, data)
        self._under_way[sent] = len(data)

    def flush(self, keys: Iterable[str]) -> None:
        """Waits until everything is stored.

        Raises:
            OSError: something could not be.
        """
        while self._under_way:
            self._finish_one()
        self._location.flush(keys)

    def end(self) -> None:
        """Waits for what is under way, gives up what has not begun."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _finish_one(self) -> None:
        """Waits until one more is stored."""
        wait(self._under_way, return_when=FIRST_COMPLETED)
        self._forget_done()

    def _forget_done(self) -> None:
        for sent in [sent for sent in self._under_way if sent.done()]:
            del self._under_way[sent]
            sent.result()
