"""Report, as a step: evaluations → one page."""

from copy import deepcopy
from typing import Any

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
        write_report(outputs.report, joined(documents(outputs)), title=outputs.suite.name)
        mark(outputs.report, outputs.pages_key())


def joined(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Evaluations of one SAE each, joined where all but the SAEs is the same."""
    together: list[dict[str, Any]] = []
    for document in found:
        for other in together:
            if _apart(other) == _apart(document):
                other["saes"] += document["saes"]
                other["baselines"] |= document["baselines"]
                for name, subset in document["subsets"].items():
                    other["subsets"][name]["saes"] += subset["saes"]
                break
        else:
            together.append(deepcopy(document))
    return together


def _apart(document: dict[str, Any]) -> dict[str, Any]:
    """What evaluations must have in common to be shown as one."""
    alone = ("saes", "baselines", "subsets")
    return {name: value for name, value in document.items() if name not in alone}


def pieces(_outputs: Outputs) -> int:
    """One process writes it."""
    return 1


STEP = Step("report", ("evaluate",), state, execute, pieces, on_gpu=False)
