"""The reasons for which ranks end: a rank that ends writes its reason into the rendezvous' store,
and the others read it there."""

import time
from collections.abc import Iterable
from typing import Any

from ...foreign import Document, read_document

GRACE_S = 5.0
"""Seconds that a rank that ends waits for the others' reasons."""

_POLL_S = 0.02
_ANY = "end/any"


class _End(Document):
    """A rank's reason."""

    why: str
    """An error's line; empty if another rank's end is the reason."""


class Endings:
    """The reasons of all ranks. Every method raises RuntimeError if the store is gone or does not
    answer."""

    def __init__(self, store: Any, rank: int, size: int):
        self._store, self._rank, self._size = store, rank, size

    def say(self, why: str) -> None:
        """Writes down why this rank ends."""
        self._store.set(self._key(self._rank), _End(why=why).model_dump_json())
        self._store.set(_ANY, "")

    def answer(self) -> bool:
        """If a rank has ended, writes that this one is alive and waits; returns whether one has."""
        if not self._store.check([_ANY]):
            return False
        self._store.set(f"waits/{self._rank}", "")
        return True

    def waiting(self) -> set[int]:
        """Ranks that have written that they wait."""
        return {rank for rank in range(self._size) if self._store.check([f"waits/{rank}"])}

    def heard(self) -> dict[int, str]:
        """The reasons so far, by rank."""
        heard = {}
        for rank in range(self._size):
            if self._store.check([self._key(rank)]):
                text = self._store.get(self._key(rank))
                heard[rank] = read_document(_End, text, f"the end of rank {rank}").why
        return heard

    def all_heard(self) -> dict[int, str]:
        """The reasons by rank, once every rank has given one or waits, or after GRACE_S."""
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
