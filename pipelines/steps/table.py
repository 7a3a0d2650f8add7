"""The table of steps, in the order in which they run: to add one is one module and one row."""

import difflib

from . import evaluate, harvest, release, report, tokenize, train
from .step import Step

STEPS: tuple[Step, ...] = (
    tokenize.STEP,
    harvest.STEP,
    train.STEP,
    evaluate.STEP,
    release.STEP,
    report.STEP,
)


def step_named(name: str) -> Step:
    """The step of that name.

    Raises:
        ValueError: there is none; the text names the nearest.
    """
    for step in STEPS:
        if step.name == name:
            return step
    names = [step.name for step in STEPS]
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"step must be one of {', '.join(names)}, got {name!r}{hint}")
