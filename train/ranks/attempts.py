"""Which attempt of a run the ranks are in.

torchrun starts all ranks again after a failure (`--max-restarts`, a host that joins or leaves), and
its store keeps what the ranks before them wrote. So the ranks of an attempt agree on a name that no
other attempt has, and write under it. torchrun's own count of restarts is no such name: each host
counts those that it began.
"""

import json
import time
import uuid
from collections.abc import Callable
from typing import TypeVar

from .bounded import Rendezvous
from .place import RankPlace

FoundT = TypeVar("FoundT")

_POLL_S = 0.02
_MEETING = "meeting"


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
