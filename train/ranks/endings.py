"""What ranks say when they end, by the rendezvous' store: a rank that leaves writes down why, and
the others hear it."""

import time
from collections.abc import Iterable
from typing import Any

from ...foreign import Document, read_document

GRACE_S = 5.0
"""How long a rank that ends waits for what the others say about their end."""

_POLL_S = 0.02
_ANY = "end/any"


class _End(Document):
    """What a rank says when it ends."""

    why: str
    """An error's line; empty where another rank's end is the reason."""


class Endings:
    """The ends of all ranks. A store that has gone, or is silent, raises RuntimeError."""

    def __init__(self, store: Any, rank: int, size: int):
        self._store, self._rank, self._size = store, rank, size

    def say(self, why: str) -> None:
        """Writes down why this rank ends."""
        self._store.set(self._key(self._rank), _End(why=why).model_dump_json())
        self._store.set(_ANY, "")

    def answer(self) -> bool:
        """Says that this rank is there and waits for others, if any has ended; whether that is
        so."""
        if not self._store.check([_ANY]):
            return False
        self._store.set(f"waits/{self._rank}", "")
        return True

    def waiting(self) -> set[int]:
        """Ranks that have answered."""
        return {rank for rank in range(self._size) if self._store.check([f"waits/{rank}"])}

    def heard(self) -> dict[int, str]:
        """What ranks have said so far."""
        heard = {}
        for rank in range(self._size):
            if self._store.check([self._key(rank)]):
                text = self._store.get(self._key(rank))
                heard[rank] = read_document(_End, text, f"the end of rank {rank}").why
        return heard

    def all_heard(self) -> dict[int, str]:
        """What all have said, but for those that only answer; or those who do within the time of
        grace."""
        until, heard = time.monotonic() + GRACE_S, self.heard()
        while len(heard.keys() | self.waiting()) < self._size and time.monotonic() < until:
            time.sleep(_POLL_S)
            heard = self.heard()
        return heard

    def part(self, others: Iterable[int]) -> None:
        """Leaves. The first rank, which may hold the store, waits for the others to leave."""
        self._store.set(f"part/{self._rank}", "")
        keys = [f"part/{rank}" for rank in others]
        until = time.monotonic() + GRACE_S
        while self._rank == 0 and not self._store.check(keys) and time.monotonic() < until:
            time.sleep(_POLL_S)

    def _key(self, rank: int) -> str:
        return f"end/{rank}"
