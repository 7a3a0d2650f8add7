"""Commands of batch jobs: `scopeworks batch render` and `scopeworks batch submit`."""

from pathlib import Path

import typer

from ...options import Given, command
from ...store.place.options import StorageSettings
from ..suite.options import SuiteOptions

app = typer.Typer(no_args_is_help=True, help="A suite as jobs of a batch system.")


class RenderOptions(SuiteOptions):
    """Options of `scopeworks batch render`."""

    target: str
    """slurm, gcp-batch, kubernetes or skypilot."""
    out: Path
    """Folder for the jobs, submit.sh and README.md."""


@command(app, RenderOptions, arguments="suite", config=False)
def render(given: Given[RenderOptions]) -> None:
    """Writes the jobs of a whole suite into a folder, and sends nothing."""
    from .submit import render as write

    asked = given.settings()
    plan = write(asked.file, asked.target, asked.out)
    typer.echo(f"{len(plan.jobs)} jobs: {asked.out / 'README.md'}")


class SubmitOptions(SuiteOptions, StorageSettings):
    """Options of `scopeworks batch submit`."""

    target: str
    """slurm, gcp-batch, kubernetes or skypilot."""
    out: Path | None = None
    """Folder for the jobs; by default batch/SUITE/TARGET."""
    ready: bool = False
    """Send only steps whose inputs are complete."""


@command(app, SubmitOptions, arguments="suite", config=False)
def submit(given: Given[SubmitOptions]) -> None:
    """Sends a suite's missing tasks with the target's own client."""
    from .submit import submit as send

    asked = given.settings()
    file = asked.file
    folder = asked.out or Path("batch") / file.suite.name / asked.target
    plan = send(file, asked.target, folder, ready_only=asked.ready)
    if not plan.jobs:
        typer.echo(f"{file.suite.name}: nothing to submit")
    for job in plan.jobs:
        typer.echo(f"{job.step}: {len(job.shares)} of {job.n_shares} tasks")
