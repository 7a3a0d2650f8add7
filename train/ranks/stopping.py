"""Stopping between two updates: signals, and what ranks agree on before each update.

Owns the handlers of SIGINT and SIGTERM while a run trains, and the few numbers that ranks exchange.
"""

import signal
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import NamedTuple, NoReturn

from .world import World


class StopSignals:
    """Turns SIGINT and SIGTERM, and a True from `asked`, into a request that a loop honours between
    two updates.

    A second signal stops at once. Ranks ignore a second SIGTERM: torchrun passes on a signal that
    the whole process group has already received. Outside the main thread Python allows no handlers,
    and signals are left as they are.
    """

    def __init__(self, world: World | None = None, asked: Callable[[], bool] | None = None) -> None:
        self.signal: int | None = None
        self._asked = asked or (lambda: False)
        self._old: dict[int, object] = {}
        self._patient = world is not None and not world.is_alone

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None and not (self._patient and number == signal.SIGTERM):
            self.leave()
        self.signal = number

    @property
    def requested(self) -> bool:
        """Whether to stop."""
        return self.signal is not None or self._asked()

    def leave(self, number: int | None = None) -> NoReturn:
        """Ends the run the way the signal asks for, its own or another rank's: exit code 130 or
        143."""
        if (number or self.signal) == signal.SIGTERM:
            print("stopped by SIGTERM; the same command continues", file=sys.stderr)
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt


class Beat(NamedTuple):
    """A rank's state before an update; from `agreed`, the state that all agree on."""

    signal: int = 0
    """The signal that a rank got (the lowest rank's, if several did); 0 for none."""
    late: bool = False
    """Whether a checkpoint is due by the first rank's clock."""
    failed: bool = False
    """Whether a rank has no rows."""
    loss: float = 0.0
    """Loss of the previous update; the same on all ranks."""


def agreed(world: World, mine: Beat) -> Beat:
    """What the ranks do next, the same on all; called by all before each update.

    Raises:
        ValueError: their losses differ, which equal ranks' never do.
    """
    (bits,) = struct.unpack("<q", struct.pack("<d", mine.loss))
    ranks = world.gathered([mine.signal, mine.late, mine.failed, bits])
    losses = Counter(of_rank[3] for of_rank in ranks)
    if len(losses) > 1:
        ((usual, _),) = losses.most_common(1)
        others = [world.named(i) for i, of_rank in enumerate(ranks) if of_rank[3] != usual]
        raise ValueError(
            f"ranks must find the same loss, got another one on {', '.join(others)} before update "
            f"{world.update}; its processor, memory or libraries are at fault. The newest "
            "checkpoint is of before, and the same command continues"
        )
    signals = [of_rank[0] for of_rank in ranks if of_rank[0]]
    failed = any(of_rank[2] for of_rank in ranks)
    return Beat(signals[0] if signals else 0, bool(ranks[0][1]), failed, mine.loss)
