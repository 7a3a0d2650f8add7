"""The step report: evaluations and finished studies → one page."""

import hashlib
from pathlib import Path

from ...evaluate.page.report import write_report
from ...evaluate.saved.study_file import READING_FILE
from ...workers.share import TaskShare
from ..suite.keys import key
from ..suite.marks import is_marked, mark
from ..suite.outputs import Outputs
from .evaluate import documents
from .step import State, Step


def state(outputs: Outputs) -> State:
    """Whether the page exists and is made from these evaluations and studies."""
    done = is_marked(outputs.report, page_key(outputs)) and outputs.report.is_file()
    return State(int(done), 1, "pages")


def execute(outputs: Outputs, share: TaskShare) -> None:
    """Writes the page."""
    if share.is_first:
        own = page_key(outputs)
        found = documents(outputs)
        write_report(outputs.report, found, title=outputs.suite.name, studies=studies(outputs))
        mark(outputs.report, own)


def studies(outputs: Outputs) -> list[Path]:
    """Folders of the studies that are finished."""
    return sorted(path.parent for path in outputs.studies.glob(f"*/{READING_FILE}"))


def page_key(outputs: Outputs) -> str:
    """Key of the page: of what release and report depend on, and of each study's files."""
    files = [
        path
        for folder in studies(outputs)
        for path in (folder / READING_FILE, *sorted(folder.glob("*.svg")))
    ]
    digests = [hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest() for path in files]
    names = [path.relative_to(outputs.studies).as_posix() for path in files]
    return key("report", 1, names, outputs.pages_key(), *digests)


def pieces(_outputs: Outputs) -> int:
    """1: one process writes the page."""
    return 1


STEP = Step("report", ("evaluate",), state, execute, pieces, on_gpu=False)
