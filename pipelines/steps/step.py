"""A step: one row of the table of steps that a run goes through.

Owns the functions that each step must have. The module of a step's name implements them.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ...workers.share import TaskShare
from ..suite.outputs import Outputs
from ..suite.settings import Suite


@dataclass(frozen=True)
class State:
    """How far a step is, counted from the outputs that exist."""

    done: int
    """Pieces that exist and are whole."""
    total: int
    """Pieces that the step makes."""
    unit: str
    """What a piece is: buckets, SAEs, …"""
    n_bytes: int | None = None
    """Bytes of the pieces; None if they would have to be read to know."""

    @property
    def complete(self) -> bool:
        """Whether all pieces are done."""
        return self.done >= self.total

    def __str__(self) -> str:
        size = "" if self.n_bytes is None else f", {self.n_bytes / 1e6:,.1f} MB"
        return f"{self.done:,} of {self.total:,} {self.unit}{size}"


@dataclass(frozen=True)
class Step:
    """One step of every suite.

    Attributes:
        name: name, as `--only` takes it.
        needs: steps whose outputs it reads.
        state: counts the outputs that exist; fast, and writes nothing.
        execute: makes a share of the missing outputs and leaves the others as they are. Raises
            NotReadyError if it needs an output that another share has not made yet.
        pieces: largest number of shares that all have work.
        on_gpu: whether a GPU makes it faster.
        is_wanted: whether a suite has this step.
    """

    name: str
    needs: tuple[str, ...]
    state: Callable[[Outputs], State]
    execute: Callable[[Outputs, TaskShare], None]
    pieces: Callable[[Outputs], int]
    on_gpu: bool
    is_wanted: Callable[[Suite], bool] = lambda _suite: True
