"""Commands of whole runs: `scopeworks run`, `scopeworks status` and `scopeworks release`."""

from contextlib import nullcontext
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from pydantic import Field

from ...options import Given, command
from ...store.place.options import StorageSettings
from ..suite.options import Changes, SuiteOptions

if TYPE_CHECKING:
    from ..suite.settings import SuiteFile

app = typer.Typer(no_args_is_help=True)


class RunOptions(SuiteOptions, StorageSettings):
    """Options of `scopeworks run`."""

    only: str | None = None
    """The only step to run."""
    first: str | None = Field(default=None, alias="from")
    """First step to run."""
    last: str | None = Field(default=None, alias="until")
    """Last step to run."""
    share: str | None = None
    """I/N: share I of N of the step `only`, counted from 0."""
    wait: float = Field(default=0.0, ge=0)
    """Minutes to wait for inputs that other processes make."""
    dask: str | None = None
    """Dask cluster for tokenize, harvest, train and evaluate."""
    dry_run: bool = False
    """Say what would be run, and run nothing."""


@command(app, RunOptions, arguments="suite", config=False)
def run(given: Given[RunOptions]) -> None:
    """Runs a suite, from text to release; what is done stays, so the same command continues.

    With --only, exit code 75 says that an input of the step is not there yet, 74 that a disk or
    the network failed: run the same command again. 2 is an error to be repaired first.
    """
    from ...console import place_failures_apart
    from ...workers.share import TaskShare
    from .runner import run_suite

    asked = given.settings()
    if asked.dask is not None:
        asked = given.settings(set=[*asked.changes, f"dask={asked.dask}"])
    with place_failures_apart() if asked.only else nullcontext():
        run_suite(
            asked.file,
            only=asked.only,
            first=asked.first,
            last=asked.last,
            share=TaskShare.parse(asked.share),
            wait_s=60 * asked.wait,
            dry_run=asked.dry_run,
        )


class StatusOptions(Changes, StorageSettings):
    """Options of `scopeworks status`."""

    suites: list[str] = Field(alias="suite")
    """Suite file, or a preset's name; with `unused` several suites, then a URL."""
    unused: bool = False
    """List the stores at the URL that no suite refers to."""
    as_json: bool = Field(default=False, alias="json")
    """As JSON."""


@command(app, StatusOptions, arguments="suites", config=False)
def status(given: Given[StatusOptions]) -> None:
    """Shows how far a suite is: each step's state, size, time and last error."""
    from ..suite.settings import SuiteFile

    asked = given.settings()
    *names, last = asked.suites
    if not asked.unused and names:
        raise ValueError(f"suite must be one file, got {len(names) + 1}; several are for --unused")
    if asked.unused and not names:
        raise ValueError(f"--unused must be given suites and then a URL, got {last} alone")
    files = [
        SuiteFile(Path(name), asked.changes, asked.storage_options) for name in names or [last]
    ]
    lines = (
        _unused(files, last, asked.storage_options, asked.as_json)
        if asked.unused
        else _status(files[0], asked.as_json)
    )
    for line in lines:
        typer.echo(line)


class ReleaseOptions(Changes, StorageSettings):
    """Options of `scopeworks release`."""

    path: Path
    """Suite file, a preset's name, or the folder of a release or of a run."""
    push: str | None = None
    """USER/REPOSITORY on the hub; made if it does not exist."""
    revision: str | None = None
    """Branch on the hub."""
    private: bool | None = None
    """Whether others may not see it."""


@command(
    app,
    ReleaseOptions,
    arguments="path",
    spelt={"private": "--private/--public"},
    config=False,
)
def release(given: Given[ReleaseOptions]) -> None:
    """Checks a release against its SHA256SUMS and, with --push, uploads it to the hub.

    The step release of `scopeworks run SUITE.toml` makes one, or write_release in Python.
    """
    from ..release.push import push
    from ..release.sums import SUMS_FILE, check_release
    from ..suite.settings import SuiteFile, presets

    asked = given.settings()
    if asked.path.is_dir() and str(asked.path) not in presets():
        if asked.changes or asked.storage_options:
            raise ValueError(
                f"--set and --storage-option have no effect on a folder, got {asked.path}"
            )
        inner = asked.path / "release"
        folder = inner if (inner / SUMS_FILE).is_file() else asked.path
    else:
        try:
            file = SuiteFile(asked.path, asked.changes, asked.storage_options)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error}; or the folder of a release or of a run") from None
        folder = _finished(file)
    if asked.push is not None:
        address = push(folder, asked.push, revision=asked.revision, private=asked.private)
        typer.echo(f"pushed: {address}")
    elif asked.revision is not None or asked.private is not None:
        raise ValueError("--revision, --private and --public have no effect without --push")
    else:
        typer.echo(f"{folder}: {len(check_release(folder))} files as released")


def _finished(file: "SuiteFile") -> Path:
    """The folder of a suite's release; refuses one of other settings or inputs."""
    from ..steps.release import STEP
    from ..suite.outputs import Outputs
    from .runner import command

    outputs = Outputs(file)
    if not STEP.state(outputs).complete:
        raise FileNotFoundError(
            f"suite {file.given} must have its release in {outputs.release}, of what the file says "
            f"now; make it: {command(file)}"
        )
    return outputs.release


def _status(file: "SuiteFile", json: bool) -> list[str]:
    """Lines on how far a suite is."""
    from .status import as_json, as_lines
    from .status import suite_status as look

    rows = look(file)
    return [dumps(as_json(file, rows), indent=2)] if json else as_lines(rows)


def _unused(files: "list[SuiteFile]", url: str, options: Any, json: bool) -> list[str]:
    """Lines on the stores at a URL that no suite refers to."""
    from ...store.place.place import Place
    from .unused import line
    from .unused import unused as look

    found = look(files, Place(url, options if Place(url).is_remote else None))
    total = sum(entry.stored_bytes or 0 for entry in found)
    if json:
        stores = [{"url": entry.url, "bytes": entry.stored_bytes} for entry in found]
        return [dumps({"unused": stores, "bytes": total}, indent=2)]
    return [
        *map(line, found),
        f"{len(found)} stores, {total / 1e9:,.3f} GB, in no suite named here",
    ]
