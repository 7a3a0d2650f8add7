"""Which of a run's processes this one is, by torchrun's environment, and which attempt of the run.

torchrun starts all ranks again after a failure (`--max-restarts`, a host that joins or leaves), and
its store keeps what the ranks before them wrote. So the ranks of an attempt agree on a name that no
other attempt has, and write under it. torchrun's own count of restarts is no such name: each host
counts those that it began.
"""

import json
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from .bounded import Rendezvous

FoundT = TypeVar("FoundT")

_POLL_S = 0.02
_MEETING = "meeting"


@dataclass(frozen=True)
class RankPlace:
    """Which of the run's processes, and which of its host's processes, this one is."""

    rank: int = 0
    size: int = 1
    rank_of_host: int = 0
    size_of_host: int = 1

    @classmethod
    def of_environment(cls) -> "RankPlace":
        """torchrun's RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE; without them a process
        alone.

        Raises:
            ValueError: they are not whole numbers, or do not fit together.
        """
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        if not all(os.environ.get(name) for name in names[:2]):
            return cls()
        texts = [os.environ.get(name) or other for name, other in zip(names, "0101", strict=True)]
        if not all(text.isascii() and text.isdigit() for text in texts):
            pairs = ", ".join(f"{a}={b}" for a, b in zip(names, texts, strict=True))
            raise ValueError(f"ranks must be whole numbers, got {pairs}; start with torchrun")
        place = cls(*map(int, texts))
        if not (place.rank < place.size and place.rank_of_host < place.size_of_host):
            raise ValueError(
                f"RANK must be below WORLD_SIZE, got {place.rank} of {place.size}; start with "
                "torchrun"
            )
        return place


def attempt_of(store: Rendezvous, place: RankPlace, patience_s: float) -> str:
    """The attempt's name, the same on all its ranks.

    Every rank says its own name until the first has read the names of all, and the first one's list
    has it: then nobody has heard a rank of another attempt. The list's first name is the attempt's.

    Args:
        store: what all ranks see.
        place: this rank's.
        patience_s: seconds to wait for the others.

    Raises:
        RuntimeError: a rank has not come in time, or the store does not answer.
    """
    mine, until = uuid.uuid4().hex, time.monotonic() + patience_s
    others = [f"here/{rank}" for rank in range(1, place.size)]
    if place.rank == 0:
        for key in others:  # they are another attempt's, or will be written again
            store.remove(key)
        _wait(lambda: store.check(others), until)
        names = [mine, *(store.get(key).decode() for key in others)]
        store.set(_MEETING, json.dumps(names))
        return mine

    def met() -> list[str]:
        store.set(f"here/{place.rank}", mine)
        names = json.loads(store.get(_MEETING)) if store.check([_MEETING]) else []
        return names if mine in names else []

    return _wait(met, until)[0]


def _wait(look: Callable[[], FoundT], until: float) -> FoundT:
    """What look() finds once it finds something."""
    while not (found := look()):
        if time.monotonic() > until:
            raise RuntimeError("not all ranks have come")
        time.sleep(_POLL_S)
    return found


def refuse_ranks(command: str) -> None:
    """Raises ValueError for a command that several processes cannot run together; SystemExit on
    all but the first."""
    place = RankPlace.of_environment()
    if place.size > 1 and place.rank == 0:
        raise ValueError(
            f"{command} must be run by one process, got {place.size} of torchrun; start it alone, "
            "or use train"
        )
    if place.size > 1:
        raise SystemExit(2)
