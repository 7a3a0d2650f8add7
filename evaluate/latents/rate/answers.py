"""A rater's answers: one JSON line for every change, in `RATER.jsonl`.

Owns the file. A line says what changes about one latent (`answer`, `note`, `flag`); the last line
that names a field counts. So two tabs lose nothing, and an answer that is taken back stays in the
file. Every line is on the disk before the page is told that it is kept.
"""

import json
import re
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ....foreign import Document, read_document
from ....store.place.files import write_file
from ....store.place.local import LocalFiles
from ....store.place.partials import naming

ANSWERS = ("yes", "maybe", "no")
MOST_CHARACTERS = 2000

Answer = Literal["yes", "maybe", "no"]


class AnswerChange(Document):
    """One line of the file; a field that it does not name stays as it was."""

    item: str
    answer: Answer | None = None
    """None: the answer is taken back."""
    note: str = Field(default="", max_length=MOST_CHARACTERS)
    flag: bool = False

    def changes(self) -> dict[str, Any]:
        """The fields that the line names, and their values."""
        return {name: getattr(self, name) for name in self.model_fields_set if name != "item"}


@dataclass
class RaterAnswer:
    """A rater's latest answer, note and flag for a latent."""

    answer: Answer | None = None
    note: str = ""
    flag: bool = False

    def take(self, change: AnswerChange) -> None:
        """Applies a later change."""
        for name, value in change.changes().items():
            setattr(self, name, value)


class AnswerFile:
    """A rater's file, read once and appended to.

    Attributes:
        entries: latent's number -> the rater's latest answer.
    """

    def __init__(self, path: Path, items: Collection[str]):
        """Reads the file; cuts off half a line that a crash has left at its end.

        Raises:
            ValueError: a whole line is damaged, or names a latent that is not in the session.
        """
        self.path, self._items = path, items
        data = path.read_bytes() if path.is_file() else b""
        self.entries = entries_of(data, str(path), items)
        if data and not data.endswith(b"\n"):
            write_file(path, data[: data.rfind(b"\n") + 1])

    def add(self, change: AnswerChange) -> RaterAnswer:
        """Appends a change to the file; it is on the disk when this returns.

        Raises:
            KeyError: the latent is not in the session.
            OSError: the line could not be written; file and entries are as before.
        """
        if change.item not in self._items:
            raise KeyError(change.item)
        line = json.dumps({"item": change.item, **change.changes()}, ensure_ascii=False) + "\n"
        _append(self.path, line.encode())
        entry = self.entries.setdefault(change.item, RaterAnswer())
        entry.take(change)
        return entry


def entries_of(data: bytes, where: str, items: Collection[str]) -> dict[str, RaterAnswer]:
    """The rater's latest answer for each latent in a file, by the latent's number.

    Args:
        where: the file's name, for errors.
        items: numbers of the session's latents.

    Raises:
        ValueError: a whole line is damaged, or names a latent that is not in the session.
    """
    *lines, rest = data.split(b"\n")
    if rest:
        print(f"note: {where}: half a line at its end is left out", file=sys.stderr)
    found: dict[str, RaterAnswer] = {}
    for number, line in enumerate(lines, 1):
        change = read_document(AnswerChange, line, f"{where} line {number}")
        if change.item not in items:
            raise ValueError(
                f"{where} line {number} must name a latent of the session, got {change.item[:20]}"
            )
        found.setdefault(change.item, RaterAnswer()).take(change)
    return found


def check_rater(name: str) -> str:
    """The name, if it can be the name of a rater's file.

    Raises:
        ValueError: it cannot.
    """
    if not re.fullmatch(r"\w[\w.\-]{0,39}", name):
        raise ValueError(
            "must be 1 to 40 letters, digits, '.', '_' or '-', beginning with a letter or digit"
        )
    return name


def _append(path: Path, data: bytes) -> None:
    """Appends data to a file and flushes it to the disk; cuts off what a full disk took half of."""
    with naming(path), path.open("ab", buffering=0) as file:
        written = file.write(data)  # one write, so that other processes' lines stay whole
        if written < len(data):
            file.truncate(file.tell() - written)
            raise OSError(f"{path} could not be written: the disk is full")
    LocalFiles(path.parent).flush([path.name])
