"""The run: does the steps of a suite in order, each if an output is missing.

Owns the choice of steps, the waiting, and the error when a step fails. The steps themselves make
the outputs and say whether they are done.
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
from ..suite.settings import AnySuite, Suite, SuiteFile
from .records import recorded
from .space import check_space

_POLL_S = 5.0


@dataclass(frozen=True)
class Outcome:
    """What the run did about one step."""

    step: str
    done: Literal["before", "now", "not yet", "would run"]
    state: State
    seconds: float = 0.0

    def __str__(self) -> str:
        took = f" in {self.seconds:,.1f} s" if self.done == "now" else ""
        return f"{self.step}: {self.done}{took} ({self.state})"


class _Claim(Document):
    name: str


def run_suite(
    suite: AnySuite,
    *,
    only: str | None = None,
    first: str | None = None,
    last: str | None = None,
    share: TaskShare = ALL,
    wait_s: float = 0.0,
    dry_run: bool = False,
    study: str | None = None,
) -> list[Outcome]:
    """Runs a suite's steps. Finished outputs are left as they are, so the same call continues.

        run_suite("demo", last="train")

    Args:
        suite: a suite file's path, a preset's name, or a `SuiteFile`.
        only: the only step to run.
        first: the first step to run; by default the first of all.
        last: the last step to run; by default the last of all.
        share: a share of the step `only`, for processes that do one step together.
        wait_s: seconds to wait for inputs that other processes make.
        dry_run: print what would be run, and run nothing.
        study: name of the study that runs this suite as a variant. Its steps leave no records, and
            an error names the study's command to continue with.

    Raises:
        NotReadyError: an input of a step is not there yet.
        ValueError, OSError: a step failed; the error names the command to try again.
    """
    file = SuiteFile.of(suite)
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
    """The steps to run, of those that the suite has.

    Raises:
        ValueError: the suite has no such step, or `first` comes after `last`.
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
    """The step of that name; refuses one that the suite does not have."""
    step = step_named(name)
    if step not in steps:
        raise ValueError(f"step {name} must be asked for by the suite; add a table [{name}] to it")
    return step


def _executed(
    step: Step, outputs: Outputs, share: TaskShare, wait_s: float, study: str | None
) -> Outcome:
    """Runs one step, or a share of it, when its inputs are there."""
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
    """The command that continues with a step, or with the study that the step is run for."""
    if study is not None:
        return command(file, of=("study", study))
    which = ["--from", step.name] if share.is_all else ["--only", step.name, "--share", str(share)]
    return command(file, *which)


def command(file: SuiteFile, *which: str, of: Sequence[str] = ("run",)) -> str:
    """The command that runs a suite, with options that choose steps.

    Storage options are left out: they may be secrets.
    """
    changes = [f"--set={one}" for one in file.changes if not one.startswith("storage_options")]
    return shlex.join(["scopeworks", *of, str(file.given), *which, *changes])


def _check_needs(step: Step, outputs: Outputs) -> None:
    """Raises NotReadyError if a step that this one reads from is not complete."""
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
