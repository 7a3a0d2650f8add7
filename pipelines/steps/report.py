"""Report, as a step: evaluations → one page."""

from ...evaluate.page.report import write_report
from ...harvest.workers.share import Share
from ..suite.outputs import Outputs
from .evaluate import documents
from .marks import is_marked, mark
from .step import State, Step


def state(outputs: Outputs) -> State:
    """Whether the page is there, of these very evaluations."""
    done = is_marked(outputs.report, outputs.pages_key()) and outputs.report.is_file()
    return State(int(done), 1, "pages")


def execute(outputs: Outputs, share: Share) -> None:
    """Writes the page."""
    if share.is_first:
        write_report(outputs.report, documents(outputs), title=outputs.suite.name)
        mark(outputs.report, outputs.pages_key())


def pieces(_outputs: Outputs) -> int:
    """One process writes it."""
    return 1


STEP = Step("report", ("evaluate",), state, execute, pieces, on_gpu=False)
