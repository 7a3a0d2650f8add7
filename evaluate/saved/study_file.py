"""A study's files as they are read again: names and shapes, checked before use.

Owns what a report and a table of findings rely on. docs/studies.md says what the files mean;
`study.write` writes them.
"""

import csv
import io
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ...foreign import Document, parse_json, validated

READING_FILE, POINTS_FILE, TIMING_FILE = "reading.json", "points.csv", "timing.json"
POINT_COLUMNS = ("value", "low", "high", "n")
"""The last columns of every points.csv; the columns before them are the study's own."""

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_\-]{0,60}$"


Line = Annotated[str, Field(max_length=300)]
Text = Annotated[str, Field(max_length=4000)]


class PlotEntry(Document):
    """One figure: its files are `NAME.svg` and `NAME.png`."""

    name: str = Field(pattern=_NAME)
    caption: Text


class ReadingFile(Document):
    """What `reading.json` must hold."""

    study: str = Field(pattern=_NAME)
    figures: list[Line] = Field(max_length=20)
    title: Line
    claim: Text
    verdict: Literal["holds", "does not hold", "cannot be told"]
    sentence: Text
    test: Text
    numbers: dict[str, Any]
    plots: list[PlotEntry] = Field(max_length=24)
    model: Text
    text: Text


class TimingFile(Document):
    """What `timing.json` must hold: minutes of the study's last run that made anything."""

    minutes: float = Field(ge=0)


def read_reading(folder: Path) -> ReadingFile:
    """The reading in a study's folder.

    Raises:
        FileNotFoundError: the study has not been run there.
        ValueError: the file is damaged.
    """
    path = folder / READING_FILE
    if not path.is_file():
        raise FileNotFoundError(f"study {folder} does not exist; run it: scopeworks study NAME")
    return validated(ReadingFile, parse_json(path.read_bytes(), str(path)), str(path))


def readings_in(out: Path) -> dict[Path, ReadingFile]:
    """Folder -> reading of every finished study in a suite's `out`, sorted by folder.

    Raises:
        ValueError: a file is damaged.
    """
    folders = sorted(path.parent for path in (out / "studies").glob(f"*/{READING_FILE}"))
    return {folder: read_reading(folder) for folder in folders}


def read_points(folder: Path) -> list[dict[str, str]]:
    """The rows of a study's points.csv, as text."""
    text = (folder / POINTS_FILE).read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text)))


def read_minutes(folder: Path) -> float | None:
    """Minutes that a study took; None if not known."""
    path = folder / TIMING_FILE
    if not path.is_file():
        return None
    return validated(TimingFile, parse_json(path.read_bytes(), str(path)), str(path)).minutes
