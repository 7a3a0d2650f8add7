"""How the processes of a run start together and end together.

A rank that meets an error writes it down, closes its connections, so that the others notice, and
waits a moment for their reasons. The lowest rank that answered says in one line what happened, and
all end with exit code 2. The ranks that did not answer are those that died or stalled.
"""

import io
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

from ...foreign import one_line
from ...store.place.files import write_json
from .bounded import Bounded, Rendezvous
from .endings import GRACE_S
from .place import RankPlace, attempt_of
from .world import JOIN_S, World


class _Nowhere(io.TextIOBase):
    """The output of all ranks but the first."""

    def write(self, text: str) -> int:
        """Drops it."""
        return len(text)


@contextmanager
def joined(patience_s: float = JOIN_S) -> Iterator[World]:
    """The world that torchrun's environment describes, while the block runs; without it this
    process alone. Only the first rank prints.

    Raises:
        ValueError: the others cannot be reached, or an error of one rank has ended all. One rank
            raises it, the others raise SystemExit(2).
    """
    place = RankPlace.of_environment()
    if place.size == 1:
        yield World()
        return
    with _told_to_torchrun(), ExitStack() as stack:
        if place.rank:
            stack.enter_context(redirect_stdout(_Nowhere()))
            stack.enter_context(redirect_stderr(_Nowhere()))
        world = _met(place, patience_s)
        old = signal.signal(signal.SIGTERM, _stop(world))
        try:
            yield world
            world.lost = True
            with suppress(RuntimeError):
                world.endings.part(range(world.size))
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                stack.pop_all()  # the others are silent to the end: what is said of it comes later
            _end(world, error)
        finally:
            world.close()
        signal.signal(signal.SIGTERM, old)


@contextmanager
def _told_to_torchrun() -> Iterator[None]:
    """Also writes an error's line to the file that torchrun reads: torchrun prints a traceback of
    its own when a rank has ended, and then this line comes last."""
    try:
        yield
    except (ValueError, OSError) as error:
        if file := os.environ.get("TORCHELASTIC_ERROR_FILE"):
            said = {"message": _line(error), "extraInfo": {"timestamp": str(int(time.time()))}}
            with suppress(OSError):
                write_json(Path(file), {"message": said})
        raise


def _met(place: RankPlace, patience_s: float) -> World:
    """The world, once all ranks have arrived."""
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    patience, bounded = timedelta(seconds=patience_s), Bounded()
    try:
        store, _, _ = bounded.call(
            patience_s + GRACE_S, lambda: next(iter(rendezvous("env://", timeout=patience)))
        )
        attempt = attempt_of(Rendezvous(store, patience_s, bounded), place, patience_s)
        store = PrefixStore(attempt, store)
        return World(place, Rendezvous(store, patience_s, bounded), patience_s)
    except (RuntimeError, ValueError) as error:  # torch's own among them
        if place.rank_of_host:
            raise SystemExit(2) from error
        raise ValueError(
            f"ranks must meet at {_address()} within {patience_s:g} s, got {_line(error)}; check "
            "that every node runs the command and reaches this address, and that its port is free"
        ) from error


def _address() -> str:
    """The address at which ranks meet."""
    return f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"


def _stop(world: World) -> Callable[[int, object], None]:
    """The handler of SIGTERM: it ends a rank as an error does, so that the others learn of it. Once
    the ranks are ending it does nothing: torchrun then sends SIGTERM to every rank left."""

    def stop(number: int, _frame: object) -> None:
        if not world.lost:
            raise SystemExit(128 + number)

    return stop


def _end(world: World, error: BaseException) -> NoReturn:
    """Ends this rank together with the others: the rank that speaks raises an error with the one
    line, the others raise SystemExit(2)."""
    from .wire import LostError

    world.lost = True
    is_lost = isinstance(error, LostError)
    why = "" if is_lost else _line(error)
    if isinstance(error, KeyboardInterrupt | SystemExit):
        why = "stopped by a signal"
    heard, waiting, rendezvous, is_gone = {world.rank: why}, set(), world.rendezvous, False
    assert rendezvous is not None, "a process alone ends alone"
    rendezvous.limit_s = min(rendezvous.limit_s, GRACE_S)
    try:
        world.endings.say(why)
        world.close()
        heard, waiting = world.endings.all_heard(), world.endings.waiting()
    except RuntimeError:
        is_gone = True
    with suppress(RuntimeError):
        world.endings.part(heard)
    # When one rank has ended, torchrun sends SIGTERM to the others. All are ending now, so ignore
    # it until the interpreter exits.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if not is_lost and not isinstance(error, ValueError | OSError):
        raise error
    if is_lost and is_gone:
        if world.place.rank_of_host:  # without the store one rank of each host speaks
            raise SystemExit(2) from error
        raise ValueError(
            f"the rendezvous at {_address()} must answer, got nothing in update {world.update}: "
            "its process (torchrun's, or rank 0's) has ended, its host has frozen, or cannot be "
            "reached; the newest checkpoint is intact, and the same command continues"
        ) from error
    if world.rank != min(heard.keys() | waiting):
        raise SystemExit(2) from error
    told = {rank: text for rank, text in heard.items() if text}
    if world.rank == 0 and told.get(0):
        raise error
    raise ValueError(_what_happened(world, told, heard.keys() | waiting, error)) from error


def _what_happened(
    world: World, told: dict[int, str], there: set[int], error: BaseException
) -> str:
    """One line: another rank's reason, or which ranks did not answer."""
    if told:
        rank = min(told)
        return f"{world.named(rank)}: {told[rank]}"
    silent = [rank for rank in range(world.size) if rank not in there]
    if not silent:
        return f"ranks must hear each other, got {one_line(error)} in update {world.update}"
    who = ", ".join(map(world.named, silent))
    return (
        f"{who} must take part in update {world.update}, got no answer (it has ended, or was "
        f"silent for {world.limit_s:g} s); the newest checkpoint is intact, and the same command "
        "continues"
    )


def _line(error: BaseException) -> str:
    """An error as one line, with its type unless it is a ValueError or OSError."""
    text = one_line(error)
    ours = isinstance(error, ValueError | OSError)
    return text if ours and text else f"{type(error).__name__}: {text}"
