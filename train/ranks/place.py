"""Reads from torchrun's environment which of a run's processes this one is."""

import os
from dataclasses import dataclass


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
