"""How long evaluations took: `timing.json` beside them, because an evaluation itself holds no time.

Owns that file: an entry for each evaluation of the folder, by the file's name.
"""

from pathlib import Path
from typing import Any

from ...foreign import parse_json
from ...store.place.files import json_bytes, write_file

TIMING_FILE = "timing.json"


def check_is_not_timing(out: Path) -> None:
    """Raises ValueError if the evaluation itself would be the file of times."""
    if out.name == TIMING_FILE:
        raise ValueError(
            f"out must not be called {TIMING_FILE}, where times go, got {out}; choose another name"
        )


def write_timing(out: Path, entry: dict[str, Any]) -> None:
    """Writes the entry of the evaluation `out`; entries of others stay, anything else is replaced.

    Two commands that end in one folder at once may lose one's entry: it is no result.
    """
    path = out.with_name(TIMING_FILE)
    known: Any = {}
    if path.is_file():
        try:
            known = parse_json(path.read_bytes(), str(path))
        except ValueError:
            known = {}
    entries = known if isinstance(known, dict) else {}
    write_file(path, json_bytes(entries | {out.name: entry}))
