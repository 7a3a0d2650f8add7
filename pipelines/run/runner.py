"""The run: the steps of a suite in their order, each as far as something is missing.

Owns which steps are run, what a share does, and what is said when one fails. What a step makes is
the step's own; that it is done is seen from what is there.
"""

import shlex
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

from ...console import NotReadyError
from ...foreign import Document, read_document
from ...machine import nearest
from ...store.place.files import write_json
from ...workers.share import ALL, TaskShare
from ..steps.step import State, Step
from ..steps.table import step_named, steps_of
from ..suite.outputs import Outputs
from ..suite.settings import Suite, SuiteFile
from .records import recorded
from .space import check_space

_POLL_S = 5.0


@dataclass(frozen=True)
class Outcome:
    """What became of one step."""

    step: str
    done: Literal["before", "now", "not yet", "would run"]
    state: State
    seconds: float = 0.0

    def __str__(self) -> str:
        took = f" in {self.seconds:,.1f} s" if self.done == "now" else ""
        return f"{self.step}: {self.done}{took} ({self.state})"


class _Claim(Document):
    name: str


def run(
    file: SuiteFile,
    *,
    only: str | None = None,
    first: str | None = None,
    last: str | None = None,
    share: TaskShare = ALL,
    wait_s: float = 0.0,
    dry_run: bool = False,
    study: str | None = None,
) -> list[Outcome]:
    """Runs a suite's steps; what is done is left as it is, so the same command continues.

    Args:
        file: the suite.
        only: the one step to run.
        first, last: the steps to begin and to end with.
        share: of the step `only`, for processes that share it.
        wait_s: how long to wait for steps that others do.
        dry_run: say what would be run, and run nothing.
        study: the study that this suite is a variant for: its steps leave no records, and what to
            type to go on is that study's command.

    Raises:
        NotReadyError: what a step needs is not there yet.
        ValueError, OSError: a step failed; the text says how to try again.
    """
    steps = chosen(file.suite, only, first, last)
    if not share.is_all and only is None:
        raise ValueError(f"share must be of one step, got {share} for all; add --only STEP")
    outputs = Outputs(file)
    if not dry_run:
        _claim(outputs)
    outcomes = []
    for step in steps:
        file.check_unchanged()
        state = step.state(outputs)
        if state.complete:
            outcome = Outcome(step.name, "before", state)
        elif dry_run:
            outcome = Outcome(step.name, "would run", state)
        else:
            outcome = _executed(step, outputs, share, wait_s, study)
        print(outcome, flush=True)
        outcomes.append(outcome)
    return outcomes


def chosen(suite: Suite, only: str | None, first: str | None, last: str | None) -> Sequence[Step]:
    """The steps to run, of those that the suite asks for.

    Raises:
        ValueError: there is no such step, or none is left between the two.
    """
    all_steps = steps_of(suite)
    if only is not None:
        if first or last:
            raise ValueError(f"only must stand alone, got {only} beside --from or --until")
        return [_wanted(only, all_steps)]
    start = 0 if first is None else all_steps.index(_wanted(first, all_steps))
    stop = len(all_steps) if last is None else all_steps.index(_wanted(last, all_steps)) + 1
    if start >= stop:
        raise ValueError(f"from must not come after until, got {first} and {last}")
    return all_steps[start:stop]


def _wanted(name: str, steps: Sequence[Step]) -> Step:
    """The step of that name, which the suite must ask for."""
    step = step_named(name)
    if step not in steps:
        raise ValueError(f"step {name} must be asked for by the suite; add a table [{name}] to it")
    return step


def _executed(
    step: Step, outputs: Outputs, share: TaskShare, wait_s: float, study: str | None
) -> Outcome:
    """One step, or a share of it, once what it needs is there."""
    began = time.monotonic()
    while True:
        try:
            with nullcontext() if study else recorded(outputs.out, step.name, share):
                _check_needs(step, outputs)
                there = step.state(outputs)
                check_space(outputs, step.name, 1 - there.done / max(1, there.total))
                step.execute(outputs, share)
            break
        except NotReadyError:
            if time.monotonic() - began > wait_s:
                raise
            time.sleep(_POLL_S)
        except (ValueError, OSError) as error:
            again = _command(outputs.file, step, share, study)
            raise _again(
                error, f"step {step.name} failed: {error}; to try again: {again}"
            ) from error
    state = step.state(outputs)
    if share.is_all and not state.complete:
        raise ValueError(f"step {step.name} must be complete when it has ended, got {state}")
    done = "now" if state.complete else "not yet"
    return Outcome(step.name, done, state, time.monotonic() - began)


def _again(error: ValueError | OSError, text: str) -> ValueError | OSError:
    """An error of the same kind with another text."""
    if not isinstance(error, OSError):
        return ValueError(text)
    new = FileNotFoundError(text) if isinstance(error, FileNotFoundError) else OSError(text)
    new.errno = error.errno
    return new


def _command(file: SuiteFile, step: Step, share: TaskShare, study: str | None) -> str:
    """What to type to go on with a step, or with the study that it is run for."""
    if study is not None:
        return command(file, of=("study", study))
    which = ["--from", step.name] if share.is_all else ["--only", step.name, "--share", str(share)]
    return command(file, *which)


def command(file: SuiteFile, *which: str, of: Sequence[str] = ("run",)) -> str:
    """What to type to run a suite, with options that choose steps; storage options, which may be
    secrets, are left out."""
    changes = [f"--set={one}" for one in file.changes if not one.startswith("storage_options")]
    return shlex.join(["scopeworks", *of, str(file.given), *which, *changes])


def _check_needs(step: Step, outputs: Outputs) -> None:
    """Raises NotReadyError while a step that this one reads from is not complete."""
    for name in step.needs:
        state = step_named(name).state(outputs)
        if not state.complete:
            raise NotReadyError(f"{step.name} needs {name}: {state}")


def _claim(outputs: Outputs) -> None:
    """Writes the suite's name into its folder; refuses a folder of another suite.

    Raises:
        ValueError: the folder is another suite's, or holds anything else.
    """
    path, name = outputs.out / "suite.json", outputs.suite.name
    if path.is_file():
        other = read_document(_Claim, path.read_bytes(), str(path)).name
        if other != name:
            raise ValueError(
                f"out must be a folder of suite {name}, got {outputs.out} of suite {other}; choose "
                "another folder"
            )
        return
    if outputs.out.exists() and not outputs.out.is_dir():
        raise ValueError(f"out must be a folder, got the file {outputs.out}; choose another")
    if not nearest(outputs.out).is_dir():
        raise ValueError(f"out must be in a folder, got {outputs.out} below a file")
    ours = {"digests.json", "steps", "tokens", "stores"}
    if outputs.out.is_dir() and {path.name for path in outputs.out.iterdir()} - ours:
        raise ValueError(
            f"out must be an empty folder or a suite's, got {outputs.out} without suite.json; "
            "choose another folder"
        )
    write_json(path, {"name": name})
