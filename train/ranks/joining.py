"""How the processes of a run come together, and how they end together.

A rank that meets an error writes it down, lets go of its connections, so that the others notice,
and waits a moment for them. Of all that have said something, the first rank says in one line what
happened, and all end with exit code 2. The ranks that have said nothing are the ones that died or
stalled.
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
from .place import RankPlace
from .world import JOIN_S, World


class _Nowhere(io.TextIOBase):
    """Where the other ranks print."""

    def write(self, text: str) -> int:
        """Drops it."""
        return len(text)


@contextmanager
def joined(patience_s: float = JOIN_S) -> Iterator[World]:
    """The world that the environment describes, for as long as the block runs; a process alone
    without torchrun's environment. Only the first rank prints.

    Raises:
        ValueError: the others cannot be reached, or an error of one rank has ended all: one rank
            raises it, the others SystemExit(2).
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
            _end(world, error)
        finally:
            world.close()
        signal.signal(signal.SIGTERM, old)


@contextmanager
def _told_to_torchrun() -> Iterator[None]:
    """An error's line also where torchrun looks for it: it prints a traceback of its own when a
    rank has ended, and the line comes last then."""
    try:
        yield
    except (ValueError, OSError) as error:
        if file := os.environ.get("TORCHELASTIC_ERROR_FILE"):
            said = {"message": _line(error), "extraInfo": {"timestamp": str(int(time.time()))}}
            with suppress(OSError):
                write_json(Path(file), {"message": said})
        raise


def _met(place: RankPlace, patience_s: float) -> World:
    """The world, once all have come."""
    from torch.distributed.rendezvous import rendezvous

    patience, bounded = timedelta(seconds=patience_s), Bounded()
    try:
        store, _, _ = bounded.call(
            patience_s + GRACE_S, lambda: next(iter(rendezvous("env://", timeout=patience)))
        )
        return World(place, Rendezvous(store, patience_s, bounded), patience_s)
    except (RuntimeError, ValueError) as error:  # torch's own among them
        if place.rank_of_host:
            raise SystemExit(2) from error
        raise ValueError(
            f"ranks must meet at {_address()} within {patience_s:g} s, got {_line(error)}; check "
            "that every node runs the command and reaches this address, and that its port is free"
        ) from error


def _address() -> str:
    """Where ranks meet."""
    return f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"


def _stop(world: World) -> Callable[[int, object], None]:
    """SIGTERM ends a rank as an error does, so that the others hear of it; not once the ranks are
    ending, when torchrun sends it to whoever is left."""

    def stop(number: int, _frame: object) -> None:
        if not world.lost:
            raise SystemExit(128 + number)

    return stop


def _end(world: World, error: BaseException) -> NoReturn:
    """Ends this rank as all end: raises what one line says on the rank that speaks, SystemExit on
    the others."""
    from .wire import LostError

    world.lost = True
    is_lost = isinstance(error, LostError)
    why = "" if is_lost else _line(error)
    if isinstance(error, KeyboardInterrupt | SystemExit):
        why = "stopped by a signal"
    heard, waiting, rendezvous = {world.rank: why}, set(), world.rendezvous
    assert rendezvous is not None, "a process alone ends alone"
    rendezvous.limit_s = min(rendezvous.limit_s, GRACE_S)
    with suppress(RuntimeError):  # a store that is gone tells nothing
        world.endings.say(why)
        world.close()
        heard, waiting = world.endings.all_heard(), world.endings.waiting()
        world.endings.part(heard)
    # torchrun ends whoever is left when one has ended, and all end now; this lasts to the end of
    # the interpreter.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if not is_lost and not isinstance(error, ValueError | OSError):
        raise error
    if is_lost and rendezvous.bounded.silent:
        if world.place.rank_of_host:  # ranks cannot agree on who speaks: one of each host does
            raise SystemExit(2) from error
        raise ValueError(
            f"the rendezvous at {_address()} must answer, got nothing in update {world.update}: "
            "its host has frozen, or cannot be reached; the newest checkpoint is intact, and the "
            "same command continues"
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
    """One line about an end whose cause is another rank, or all that is known of it."""
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
    """An error as one line, with its type where it is none of ours."""
    text = one_line(error)
    ours = isinstance(error, ValueError | OSError)
    return text if ours and text else f"{type(error).__name__}: {text}"
