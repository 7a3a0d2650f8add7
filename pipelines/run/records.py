"""Records: which process runs a step, since when, and how the step ended.

Owns one small JSON for each step and share in the suite's folder. No output depends on them:
`status` and `plan --compare` read them, and people who look for the reason of a failure.
"""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import psutil

from ...console import NotReadyError
from ...foreign import Document, one_line, read_document
from ...store.place.files import write_json
from ...workers.share import TaskShare

BEAT_S = 20.0
"""A running step touches its record every `BEAT_S` seconds."""


class Record(Document):
    """The last run of one share of a step."""

    step: str
    share: str
    state: Literal["running", "done", "failed", "waiting", "stopped"]
    host: str
    pid: int
    started: str
    """UTC, ISO 8601."""
    seconds: float
    error: str | None = None

    @property
    def n_shares(self) -> str:
        """How many shares the step was cut into: the N of `share`."""
        return self.share.partition("/")[2]

    @property
    def alive(self) -> bool:
        """Whether its process runs; true for processes on other machines."""
        return self.host != socket.gethostname() or psutil.pid_exists(self.pid)


@contextmanager
def recorded(folder: Path, step: str, share: TaskShare) -> Iterator[None]:
    """Writes a record when the block begins and when it ends."""
    path = folder / "steps" / (f"{step}.json" if share.is_all else f"{step}.{share.index}.json")
    begun, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")

    def write(state: str, error: BaseException | None = None) -> None:
        record = {
            "step": step,
            "share": str(share),
            "state": state,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": started,
            "seconds": round(time.monotonic() - begun, 3),
            "error": None if error is None else one_line(error) or type(error).__name__,
        }
        write_json(path, record)

    write("running")
    with _beating(path):
        try:
            yield
        except NotReadyError as error:
            write("waiting", error)
            raise
        except (KeyboardInterrupt, SystemExit) as error:
            write("stopped", error)
            raise
        except BaseException as error:
            write("failed", error)
            raise
    write("done")


def records_of(folder: Path, step: str) -> list[Record]:
    """The records of a step's shares.

    A running step whose process is gone, or whose record was not touched for ten beats, counts as
    stopped.
    """
    found = []
    for path in sorted((folder / "steps").glob(f"{step}*.json")):
        with suppress(OSError, ValueError):
            record = read_document(Record, path.read_bytes(), str(path))
            silent_s = time.time() - path.stat().st_mtime
            gone = not record.alive or silent_s > 10 * BEAT_S
            lost = record.state == "running" and gone
            found.append(record.model_copy(update={"state": "stopped"}) if lost else record)
    found = [record for record in found if record.step == step]
    # If the step was cut into another number of shares before, only the last cut counts.
    last = max(found, key=lambda record: record.started, default=None)
    return [record for record in found if last and record.n_shares == last.n_shares]


@contextmanager
def _beating(path: Path) -> Iterator[None]:
    """Touches the file every `BEAT_S` seconds, so that other machines see that the step runs."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_S):
            with suppress(OSError):
                path.touch()

    thread = threading.Thread(target=beat, name="scopeworks-beat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
