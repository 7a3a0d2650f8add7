"""Commands of batch jobs: `scopeworks batch render` and `scopeworks batch submit`."""

from pathlib import Path
from typing import Annotated

import typer

from ..run.cli import Changes, StorageOption, SuitePath

app = typer.Typer(no_args_is_help=True, help="A suite as jobs of a batch system.")

TargetName = Annotated[str, typer.Option(help="slurm, gcp-batch, kubernetes or skypilot.")]


@app.command()
def render(
    suite: SuitePath,
    target: TargetName,
    out: Annotated[Path, typer.Option(help="Folder for the jobs, submit.sh and README.md.")],
    change: Changes = None,
) -> None:
    """Writes the jobs of a whole suite into a folder; sends nothing."""
    from ..suite.settings import SuiteFile
    from .submit import render as write

    plan = write(SuiteFile(suite, change or ()), target, out)
    typer.echo(f"{len(plan.jobs)} jobs: {out / 'README.md'}")


@app.command()
def submit(
    suite: SuitePath,
    target: TargetName,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the jobs; by default batch/SUITE/TARGET.")
    ] = None,
    ready: Annotated[
        bool, typer.Option("--ready", help="Send only what need not wait for another step.")
    ] = False,
    change: Changes = None,
    storage_option: StorageOption = None,
) -> None:
    """Sends what is missing of a suite through the target's own client."""
    from ...store.place.options import parse_storage_options
    from ..suite.settings import SuiteFile
    from .submit import submit as send

    file = SuiteFile(suite, change or (), parse_storage_options(storage_option))
    folder = out or Path("batch") / file.suite.name / target
    plan = send(file, target, folder, ready_only=ready)
    if not plan.jobs:
        typer.echo(f"{file.suite.name}: nothing to submit")
    for job in plan.jobs:
        typer.echo(f"{job.step}: {len(job.shares)} of {job.n_shares} tasks")
