"""Marks: the key of an output whose name cannot hold it, in a file beside it.

A mark is written when the output is whole and names the only key that it is whole for.
"""

from pathlib import Path

from ...foreign import Document, read_document
from ...store.place.files import write_json


class _Mark(Document):
    key: str


def mark(output: Path, key: str) -> None:
    """Says that the output is whole, for this key."""
    write_json(_path(output), {"key": key})


def is_marked(output: Path, key: str) -> bool:
    """Whether the output was whole for this key; a damaged mark is none."""
    try:
        return read_document(_Mark, _path(output).read_bytes(), "mark").key == key
    except (OSError, ValueError):
        return False


def _path(output: Path) -> Path:
    return output.with_name(f"{output.name}.key.json")
