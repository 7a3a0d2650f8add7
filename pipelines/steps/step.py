"""A step: one row of the table that a run goes through.

Owns what a step must say. What is particular to one is in the module of its name.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ...workers.share import TaskShare
from ..suite.outputs import Outputs
from ..suite.settings import Suite


@dataclass(frozen=True)
class State:
    """How far a step's outputs are, by what is there and not by what a run remembers."""

    done: int
    """Pieces that are there, whole."""
    total: int
    unit: str
    """What a piece is: buckets, SAEs, …"""
    n_bytes: int | None = None
    """Of the pieces, where that is known without reading them."""

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return self.done >= self.total

    def __str__(self) -> str:
        size = "" if self.n_bytes is None else f", {self.n_bytes / 1e6:,.1f} MB"
        return f"{self.done:,} of {self.total:,} {self.unit}{size}"


@dataclass(frozen=True)
class Step:
    """One step of every suite.

    Attributes:
        name: as `--only` takes it.
        needs: steps whose outputs it reads.
        state: looks at what is there; cheap, writes nothing.
        execute: does a share of what is missing; what is done stays as it is. Raises NotReadyError
            while another share has yet to do what it needs.
        pieces: how many shares could have work.
        on_gpu: whether a GPU makes it faster.
        is_wanted: whether a suite asks for it; one that does not has no such step.
    """

    name: str
    needs: tuple[str, ...]
    state: Callable[[Outputs], State]
    execute: Callable[[Outputs, TaskShare], None]
    pieces: Callable[[Outputs], int]
    on_gpu: bool
    is_wanted: Callable[[Suite], bool] = lambda _suite: True
