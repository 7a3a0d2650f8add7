"""Jobs: the tasks of a suite to send, the same for every target.

Owns the choice of tasks, a task's command, the check that a job holds no secret, and names that
every batch system accepts. The module of a target writes its files.
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
"""Values of gcsfs's `token` that name a way to log in and are not secret."""

_LOGIN_IN_URL = re.compile(r"\w://[^/\s:@\"']+:[^/\s@\"']+@")


@dataclass(frozen=True)
class Job:
    """The job of one step: tasks that differ only in their share.

    Attributes:
        number: position in the order of steps, from 1.
        step: name of the step.
        shares: numbers of the shares to do, ascending.
        n_shares: number of shares that the step is cut into.
        needs: steps of this submission whose jobs come before.
        task: settings of a task.
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
    """Everything that a target needs to write its files.

    Attributes:
        name: name of the suite.
        text: content of the suite file, which travels with the jobs.
        changes: the given changes of the file, each `table.key=value`.
        out: the suite's folder, as its file names it.
        settings: its `[batch]` table.
        jobs: the jobs in their order.
    """

    name: str
    text: str
    changes: tuple[str, ...]
    out: str
    settings: BatchSettings
    jobs: tuple[Job, ...]

    def command(self, job: Job) -> list[str]:
        """The words of a task's command, without the program, the suite's path and the share."""
        words = ["--only", job.step, "--wait", f"{self.settings.wait_minutes:g}"]
        changes = [change for change in self.changes if not change.startswith("batch.")]
        return words + [word for change in changes for word in ("--set", change)]


def batch_settings(file: SuiteFile, steps: Sequence[str]) -> BatchSettings:
    """The suite's `[batch]` table.

    Args:
        file: the suite.
        steps: names of the steps that its `[batch.steps]` may have.

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
    """The jobs to send.

    Args:
        file: the suite.
        settings: its `[batch]` table.
        work: its steps, in their order.
        missing: step -> shares that are not done; by default all shares of all steps.
        ready_only: leave out steps that need an incomplete step.

    Raises:
        ValueError: the suite file holds a secret, which a job would show.
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
    """Refuses jobs whose outputs would be lost with their machine.

    Args:
        plan: the jobs.
        mounts: absolute paths that outlive a machine.
        where: names of the settings that mount them, for the error.

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
    """The folder where tasks start; "" leaves it to the target."""
    return settings.workdir or next(iter(mounts), "")


def dns_name(*parts: str, longest: int = 50) -> str:
    """A name of lower-case letters, digits and dashes that begins with a letter.

    A name that had to be changed or cut ends in six digits of a hash, so that it stays unique.
    """
    wanted = "-".join(parts)
    name = re.sub(r"[^a-z0-9]+", "-", wanted.lower()).strip("-")
    name = name if name[:1].isalpha() else f"s-{name}"
    if name == wanted and len(name) <= longest:
        return name
    mark = hashlib.sha256(wanted.encode()).hexdigest()[:6]
    return f"{name[: longest - 7].rstrip('-')}-{mark}"


def _check_holds_no_secret(file: SuiteFile) -> None:
    """Refuses a suite file with a secret: everybody who may look at the jobs can read its text."""
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
