"""How long evaluations took: `timing.json` beside them. An evaluation itself holds no time.

Owns that file: an entry for each evaluation in the folder, by the evaluation's file name.
"""

from pathlib import Path
from typing import Any

from pydantic import RootModel

from ...foreign import Document, parse_json, validated
from ...store.place.files import check_can_be_written, json_bytes, write_file

TIMING_FILE = "timing.json"


class _Group(Document):
    saes: list[str]
    seconds: float


class _Times(Document):
    seconds: float
    groups: list[_Group]


class _Table(RootModel[dict[str, _Times]]):
    """What the file holds."""


def check_timing(out: Path) -> None:
    """Checks, before the run, that the times of the evaluation `out` can be written.

    Raises:
        OSError: a folder, pipe or device has the name of that file.
        ValueError: that file holds something else, or `out` has its name.
    """
    if out.name == TIMING_FILE:
        raise ValueError(
            f"out must not be called {TIMING_FILE}, where times go, got {out}; choose another name"
        )
    check_can_be_written(out.with_name(TIMING_FILE), f"{TIMING_FILE} beside out")
    _entries(out)


def write_timing(out: Path, entry: dict[str, Any]) -> None:
    """Writes the entry of the evaluation `out`; other entries stay.

    If two commands end in one folder at the same time, one entry may be lost.

    Raises:
        OSError, ValueError: as `check_timing`.
    """
    write_file(out.with_name(TIMING_FILE), json_bytes(_entries(out) | {out.name: entry}))


def _entries(out: Path) -> dict[str, Any]:
    """The entries of the file beside `out`; none if it is empty or not there."""
    path = out.with_name(TIMING_FILE)
    if not path.is_file() or not path.stat().st_size:
        return {}
    try:
        value = parse_json(path.read_bytes(), str(path))
        validated(_Table, value, str(path))
    except ValueError as error:
        raise ValueError(
            f"{TIMING_FILE} beside out must be a table of evaluations' times, got something else "
            f"({error}); choose another folder for out"
        ) from error
    return value
