"""What is beside an output: the key of one whose name cannot hold it, and who is making one.

A mark is written when the output is whole and names the only key that it is whole for.
"""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from ...foreign import Document, read_document
from ...store.place.files import write_json
from ...store.place.ownership import owned
from ...workers.share import TaskShare
from .outputs import Outputs


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


def alone(outputs: Outputs, url: str, share: TaskShare) -> AbstractContextManager[None]:
    """Waits for another run on this machine that makes the same output: it is there then. Shares
    work side by side, and what is made at a URL is harmless if it is made twice."""
    place = outputs.suite.place(url).beside(".owner")
    if not share.is_all or place.is_remote:
        return nullcontext()
    return owned(Path(place.url), wait=True)


def _path(output: Path) -> Path:
    return output.with_name(f"{output.name}.key.json")
