"""Calls to the rendezvous' store, with a time limit.

torch's store has a time limit for missing keys, but none for a host that has frozen: a call would
wait for ever. Here a thread makes the calls, and is abandoned if it does not answer. Knows no
ranks.
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
        silent: whether a call has not returned in time; from then on every call raises at once.
    """

    def __init__(self) -> None:
        self.silent = False
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def call(self, limit_s: float, make: Callable[[], ResultT]) -> ResultT:
        """What make() returns.

        Raises:
            RuntimeError: it did not return within limit_s seconds, or an earlier call did not. The
                call's own errors are raised as they are.
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
        limit_s: seconds that it may take to answer.
        bounded: makes the calls.
    """

    def __init__(self, raw: Any, limit_s: float, bounded: Bounded | None = None):
        self.raw, self.limit_s, self.bounded = raw, limit_s, bounded or Bounded()

    def set(self, key: str, value: str) -> None:
        """Writes a text. This and the other calls raise RuntimeError if the store is gone or does
        not answer."""
        self.bounded.call(self.limit_s, lambda: self.raw.set(key, value))

    def check(self, keys: Sequence[str]) -> bool:
        """Whether all keys have been written."""
        return self.bounded.call(self.limit_s, lambda: self.raw.check(keys))

    def remove(self, key: str) -> None:
        """Drops a key, if it is there."""
        self.bounded.call(self.limit_s, lambda: self.raw.delete_key(key))

    def get(self, key: str) -> bytes:
        """The text of a key that has been written."""
        return self.bounded.call(self.limit_s, lambda: self.raw.get(key))
