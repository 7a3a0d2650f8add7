"""Files beside an output: a mark with its key, and the lock of the process that makes it.

An output whose name cannot hold its key (the release, the report) gets a mark. It is written when
the output is whole, and the output counts as done for the mark's key only.
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
    """Writes that the output is whole, for this key."""
    write_json(_path(output), {"key": key})


def is_marked(output: Path, key: str) -> bool:
    """Whether the output is marked as whole for this key; a damaged mark counts as none."""
    try:
        return read_document(_Mark, _path(output).read_bytes(), "mark").key == key
    except (OSError, ValueError):
        return False


def alone(outputs: Outputs, url: str, share: TaskShare) -> AbstractContextManager[None]:
    """A lock on an output: waits while another run on this machine makes the same output.

    There is no lock for shares, which work side by side, nor at a URL, where making an output
    twice does no harm.
    """
    place = outputs.suite.place(url).beside(".owner")
    if not share.is_all or place.is_remote:
        return nullcontext()
    return owned(Path(place.url), wait=True)


def _path(output: Path) -> Path:
    return output.with_name(f"{output.name}.key.json")
