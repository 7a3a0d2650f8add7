"""The table of steps, in the order in which they run. Another step is one module and one row."""

import difflib

from ..suite.settings import Suite
from . import evaluate, harvest, latents, release, report, tokenize, train
from .step import Step

STEPS: tuple[Step, ...] = (
    tokenize.STEP,
    harvest.STEP,
    train.STEP,
    evaluate.STEP,
    release.STEP,
    report.STEP,
    latents.STEP,
)


def steps_of(suite: Suite) -> tuple[Step, ...]:
    """The steps that a suite has, in their order."""
    return tuple(step for step in STEPS if step.is_wanted(suite))


def step_named(name: str) -> Step:
    """The step of that name.

    Raises:
        ValueError: there is none; the error names the nearest.
    """
    for step in STEPS:
        if step.name == name:
            return step
    names = [step.name for step in STEPS]
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"step must be one of {', '.join(names)}, got {name!r}{hint}")
