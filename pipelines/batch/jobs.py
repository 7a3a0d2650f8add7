"""Jobs: what is to be sent of a suite, the same for every target.

Owns which tasks are sent, what a task's command is, what of the suite may not travel, and names
that every batch system takes. How a target says it is in the file of its name.
"""

import difflib
import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ..run.work import Work
from ..suite.settings import SuiteFile
from .settings import BatchSettings, TaskSettings, looks_secret

_HARMLESS = ("anon", "cloud", "google_default")
"""What gcsfs takes for a token that names a way to log in, and is none."""

_LOGIN_IN_URL = re.compile(r"\w://[^/\s:@\"']+:[^/\s@\"']+@")


@dataclass(frozen=True)
class Job:
    """One step: tasks that differ in their share.

    Attributes:
        number: its place in the order, from 1.
        step: name of the step.
        shares: numbers of the shares to do, ascending.
        n_shares: how many the step is cut into.
        needs: steps of this submission whose jobs come before.
        task: what a task gets.
    """

    number: int
    step: str
    shares: tuple[int, ...]
    n_shares: int
    needs: tuple[str, ...]
    task: TaskSettings

    @property
    def stem(self) -> str:
        """Name of the job's file, without its suffix."""
        return f"{self.number:02d}-{self.step}"

    @property
    def at_once(self) -> int:
        """Most tasks that run at the same time."""
        return min(len(self.shares), self.task.parallelism or len(self.shares))


@dataclass(frozen=True)
class Submission:
    """All that a target needs to know.

    Attributes:
        name: the suite's.
        text: the suite file's content, which travels with the jobs.
        changes: `table.key=value` that were given beside it.
        out: the suite's folder, as the suite says it.
        settings: its `[batch]`.
        jobs: in their order.
    """

    name: str
    text: str
    changes: tuple[str, ...]
    out: str
    settings: BatchSettings
    jobs: tuple[Job, ...]

    def command(self, job: Job) -> list[str]:
        """The words of a task's command between the suite's path and its share."""
        words = ["--only", job.step, "--wait", f"{self.settings.wait_minutes:g}"]
        changes = [change for change in self.changes if not change.startswith("batch.")]
        return words + [word for change in changes for word in ("--set", change)]


def batch_settings(file: SuiteFile, steps: Sequence[str]) -> BatchSettings:
    """The suite's `[batch]` table.

    Args:
        steps: names that its `steps` may have.

    Raises:
        ValueError: naming file, table and key.
    """
    settings = file.table(BatchSettings, "[batch]", file.suite.batch)
    for step in settings.steps:
        if step not in steps:
            close = difflib.get_close_matches(step, steps, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"steps: {', '.join(steps)}"
            raise ValueError(f"suite {file.path}, [batch.steps]: no step {step!r}; {hint}")
    return settings


def submission(
    file: SuiteFile,
    settings: BatchSettings,
    work: Sequence[Work],
    missing: Mapping[str, Sequence[int]] | None = None,
    ready_only: bool = False,
) -> Submission:
    """What to send.

    Args:
        file: the suite.
        settings: its `[batch]`.
        work: its steps, in their order.
        missing: step -> shares that are not done; by default all of all steps.
        ready_only: leave out steps that need a step of which something is missing.

    Raises:
        ValueError: the suite holds what may not travel in a job.
    """
    _check_holds_no_secret(file)
    wanted = {one.step: tuple(range(one.n_shares)) for one in work}
    if missing is not None:
        wanted = {step: tuple(sorted(shares)) for step, shares in missing.items() if shares}
    jobs = []
    for number, one in enumerate(work, 1):
        needs = tuple(step for step in one.needs if step in wanted)
        if one.step not in wanted or (ready_only and needs):
            continue
        task = settings.task(one.step, one.gpus)
        jobs.append(Job(number, one.step, wanted[one.step], one.n_shares, needs, task))
    return Submission(
        name=file.suite.name,
        text=file.text.decode(),
        changes=file.changes,
        out=str(file.suite.out),
        settings=settings,
        jobs=tuple(jobs),
    )


def check_out_is_kept(plan: Submission, mounts: Sequence[str], where: str) -> None:
    """Refuses jobs whose results would go with their machine.

    Args:
        mounts: absolute paths of what stays.
        where: the settings that say them.

    Raises:
        ValueError: the suite's folder is on none of the mounts.
    """
    folder = PurePosixPath(start_folder(plan.settings, mounts) or "/") / plan.out
    if not any(folder.is_relative_to(mount) for mount in mounts):
        raise ValueError(
            f"out must be on a mount of the jobs, got {folder}; mount a bucket or disk there: "
            f"{where}"
        )


def start_folder(settings: BatchSettings, mounts: Sequence[str]) -> str:
    """Where tasks start; the empty text leaves it to the target."""
    return settings.workdir or next(iter(mounts), "")


def dns_name(*parts: str, longest: int = 50) -> str:
    """A name of lower-case letters, digits and dashes that begins with a letter.

    What had to be changed or cut is told apart by six digits of a hash.
    """
    wanted = "-".join(parts)
    name = re.sub(r"[^a-z0-9]+", "-", wanted.lower()).strip("-")
    name = name if name[:1].isalpha() else f"s-{name}"
    if name == wanted and len(name) <= longest:
        return name
    mark = hashlib.sha256(wanted.encode()).hexdigest()[:6]
    return f"{name[: longest - 7].rstrip('-')}-{mark}"


def _check_holds_no_secret(file: SuiteFile) -> None:
    """The suite's text is in the jobs for everybody to read who may look at them."""
    if _LOGIN_IN_URL.search(file.text.decode()) or any(map(_LOGIN_IN_URL.search, file.changes)):
        raise ValueError(
            f"suite {file.path}: a URL holds a password; use one without, and name the secret in "
            "[batch]"
        )
    values = tomllib.loads(file.text.decode())
    for name, value in _leaves(values.get("storage_options")):
        if looks_secret(name) and value not in _HARMLESS:
            raise ValueError(
                f"suite {file.path}: storage_options.{name} would travel in the jobs' text; leave "
                "it out, and give the tasks a service account or a secret of [batch]"
            )
    for change in file.changes:
        name, _, _ = change.partition("=")
        if "storage_options" in name:
            raise ValueError(f"--set {name} would travel in the jobs' text; leave it out")


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values of nested tables."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, str(key))
    elif name:
        yield name, value
