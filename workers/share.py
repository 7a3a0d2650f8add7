"""A share of a stage's work: the part of one of several processes that do not communicate.

Owns the numbering. Piece i of the work (a part of a text, a bucket of rows) belongs to share i mod
count, so that neighbouring pieces go to different processes.
"""

import re
from dataclasses import dataclass

_SHARE = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


@dataclass(frozen=True)
class TaskShare:
    """Share `index` of `count`, counted from 0; share 0 also does the work that is done only once.

    Raises:
        ValueError: there is no such share.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(
                f"share must be I/N with 0 ≤ I < N, got {self}; the first of eight is 0/8"
            )

    @classmethod
    def parse(cls, text: str | None) -> "TaskShare":
        """Reads `I/N`; None means all the work."""
        if text is None:
            return ALL
        match = _SHARE.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"share must be I/N, got {text[:40]!r}; the first of eight is 0/8")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def is_first(self) -> bool:
        """Whether this share also does the work that is done only once."""
        return self.index == 0

    @property
    def is_all(self) -> bool:
        """Whether there is no other share."""
        return self.count == 1

    def has(self, number: int) -> bool:
        """Whether piece `number` of the work belongs to this share."""
        return number % self.count == self.index


ALL = TaskShare()
