"""Uploads to an object store in the background, while the next objects are made.

Owns which uploads are running and how many bytes they hold. An upload takes long on a slow
connection; one after the other, uploads would stop the writer.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Protocol

from .location import Location, joined

_CONNECTIONS = 8


class Sink(Protocol):
    """Where a bucket's shards are written: a `Location`, or one that uploads in the background."""

    def write(self, key: str, parts: Iterable[bytes | memoryview]) -> None:
        """See `Location.write`."""
        ...

    def flush(self, keys: Iterable[str]) -> None:
        """See `Location.flush`."""
        ...


@contextmanager
def sending(location: Location, max_bytes: int) -> Iterator[Sink]:
    """A sink for the shards of a bucket; at the end of the block no upload is running any more.

    Args:
        location: where the shards are written.
        max_bytes: bound on the bytes of running uploads, which are held in memory, without the
            object that is being made. One upload may always run, however large.
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
    """Uploads in the background; `flush` waits for all uploads and raises their errors."""

    def __init__(self, location: Location, max_bytes: int):
        self._location, self._max_bytes = location, max_bytes
        self._pool = ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="scopeworks-send")
        self._under_way: dict[Future[None], int] = {}
        """Running uploads -> their bytes."""

    def write(self, key: str, parts: Iterable[bytes | memoryview]) -> None:
        """Reads all parts, begins the upload and returns.

        Raises:
            OSError: an earlier upload has failed.
        """
        data = joined(parts)
        self._forget_done()
        while self._under_way and sum(self._under_way.values()) + len(data) > self._max_bytes:
            self._finish_one()
        sent = self._pool.submit(self._location.replace, key, data)
        self._under_way[sent] = len(data)

    def flush(self, keys: Iterable[str]) -> None:
        """Waits until every upload is stored.

        Raises:
            OSError: an upload has failed.
        """
        while self._under_way:
            self._finish_one()
        self._location.flush(keys)

    def end(self) -> None:
        """Waits for running uploads and cancels those that have not begun."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _finish_one(self) -> None:
        """Waits until one more upload is stored."""
        wait(self._under_way, return_when=FIRST_COMPLETED)
        self._forget_done()

    def _forget_done(self) -> None:
        for sent in [sent for sent in self._under_way if sent.done()]:
            del self._under_way[sent]
            sent.result()
