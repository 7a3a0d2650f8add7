"""The rendezvous' store, asked within bounds of time.

torch's store has time limits for keys that are missing, none for a host that has frozen: a call
would wait for ever. Here calls are made by a thread that may be given up. Knows no ranks.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")


class Bounded:
    """Makes calls one after the other in a thread of its own.

    Attributes:
        silent: whether one has not returned in time; from then on all raise at once.
    """

    def __init__(self) -> None:
        self.silent = False
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def call(self, limit_s: float, make: Callable[[], ResultT]) -> ResultT:
        """What a call returns.

        Raises:
            RuntimeError: it does not within so many seconds, or an earlier one has not; the call's
                own errors.
        """
        if self.silent:
            raise RuntimeError("the rendezvous does not answer any more")
        future: Future[ResultT] = Future()
        self._calls.put((future, make))
        try:
            return future.result(limit_s)
        except TimeoutError as error:
            self.silent = True
            raise RuntimeError(f"the rendezvous has not answered for {limit_s:g} s") from error

    def _work(self) -> None:
        while True:
            future, make = self._calls.get()
            try:
                future.set_result(make())
            except BaseException as error:
                future.set_exception(error)


class Rendezvous:
    """A store of torch's: keys and texts that all ranks see.

    Attributes:
        raw: the store, for libraries.
        limit_s: how long it may take to answer.
        bounded: what asks it.
    """

    def __init__(self, raw: Any, limit_s: float, bounded: Bounded | None = None):
        self.raw, self.limit_s, self.bounded = raw, limit_s, bounded or Bounded()

    def set(self, key: str, value: str) -> None:
        """Writes a text. RuntimeError, as all others raise, where the store has gone or is
        silent."""
        self.bounded.call(self.limit_s, lambda: self.raw.set(key, value))

    def check(self, keys: Sequence[str]) -> bool:
        """Whether all keys have been written."""
        return self.bounded.call(self.limit_s, lambda: self.raw.check(keys))

    def get(self, key: str) -> bytes:
        """What stands under a key that has been written."""
        return self.bounded.call(self.limit_s, lambda: self.raw.get(key))
