"""The step release: SAEs and evaluations → one folder to publish."""

from typing import Any

from ...harvest.text.stdlib import STDLIB
from ...store import TokenStore
from ...workers.share import ALL, TaskShare
from ..release.folder import write_release
from ..release.sums import read_sums
from ..suite.marks import alone, is_marked, mark
from ..suite.outputs import Outputs
from .evaluate import documents
from .harvest import rows_of
from .step import State, Step


def state(outputs: Outputs) -> State:
    """Whether the release is whole and made from these SAEs and evaluations."""
    return State(int(_is_whole(outputs)), 1, "releases")


def execute(outputs: Outputs, share: TaskShare) -> None:
    """Writes the release, and removes files of an earlier release that are not in it."""
    if not share.is_first:
        return
    documents(outputs)
    settings = outputs.suite.release
    with alone(outputs, str(outputs.release), ALL):
        write_release(
            outputs.release,
            [outputs.sae(member) for member in outputs.members],
            _facts(outputs),
            evaluations=[outputs.evaluation(member) for member in outputs.members],
            formats=settings.formats,
            gain_of=outputs.suite.model,
        )
        mark(outputs.release, outputs.pages_key())


def _is_whole(outputs: Outputs) -> bool:
    """Whether all files of the release exist; their content is not read."""
    if not is_marked(outputs.release, outputs.pages_key()):
        return False
    try:
        return all((outputs.release / name).is_file() for name in read_sums(outputs.release))
    except FileNotFoundError:
        return False


def pieces(_outputs: Outputs) -> int:
    """1: one process writes the release."""
    return 1


def _facts(outputs: Outputs) -> dict[str, Any]:
    """The release's facts that are not in the SAEs' files."""
    suite, tokens = outputs.suite, TokenStore.open(outputs.tokens)
    facts = {
        "name": suite.name,
        "model": suite.model,
        "text": suite.release.text or _text(outputs),
        "license": suite.release.license,
        "repo": suite.release.repo,
        "tokens": sum(tokens.splits.values()) * tokens.context,
        "rows": rows_of(outputs),
        "settings": {"context": tokens.context, "seed": suite.seed},
        "limits": suite.release.limits,
    }
    return {name: value for name, value in facts.items() if value is not None}


def _text(outputs: Outputs) -> str:
    """Description of the text, without paths."""
    names = outputs.file.text_table.sources
    known = [name.removeprefix("hf:") for name in names if name.startswith("hf:")]
    known += ["the Python standard library's sources"] * (STDLIB in names)
    return ", ".join(known) or "not described"


STEP = Step("release", ("evaluate",), state, execute, pieces, on_gpu=False)
