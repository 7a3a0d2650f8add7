"""The `scopeworks` command: every stage's commands joined, plus whole runs."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import PositiveInt

from ..console import run_command
from ..evaluate.cli import app as evaluate_app
from ..evaluate.latents.cli import app as latents_app
from ..harvest.cli import app as harvest_app
from ..options import Given, command
from ..store.cli import app as store_app
from ..train.cli import app as train_app
from ..train.ranks.place import refuse_ranks
from .batch.cli import app as batch_app
from .run.cli import app as run_app
from .run.plan_cli import app as plan_app
from .studies.cli import app as study_app
from .suite.options import Changes

app = typer.Typer(
    name="scopeworks",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Gemma Scope end to end: harvest activations once, train JumpReLU SAEs on them many "
    "times, evaluate and release the SAEs.",
)
app.add_typer(harvest_app)
app.add_typer(store_app, name="store")
app.add_typer(train_app)
app.add_typer(evaluate_app)
app.add_typer(latents_app, name="latents")
app.add_typer(run_app)
app.add_typer(batch_app, name="batch")
app.add_typer(plan_app)
app.add_typer(study_app)


def _show_version(wanted: bool) -> None:
    """Prints the package's version and ends."""
    if wanted:
        from ..version import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-v", is_eager=True, callback=_show_version, help="Print the version."
        ),
    ] = False,
) -> None:
    """Options before a command; refuses torchrun's processes for all commands but `train`."""
    if context.invoked_subcommand not in (None, "train"):
        refuse_ranks(context.invoked_subcommand)


class DemoOptions(Changes):
    """What `scopeworks demo` changes of its suite file."""

    out: Path = Path("demo")
    """Folder for everything the demo makes."""
    rows: PositiveInt | None = None
    """Activation rows to harvest."""
    steps: PositiveInt | None = None
    """Training steps for each SAE."""
    width: PositiveInt | None = None
    """Latents of each SAE."""
    sparsity: list[float] | None = None
    """λ of one SAE."""
    seed: int | None = None
    """Seed of every shuffle and start."""


@command(app, DemoOptions, config=False)
def demo(given: Given[DemoOptions]) -> None:
    """Runs the whole system on the shipped tiny Gemma 2: a few minutes, ends in report.html.

    The same as `scopeworks run demo`, which runs the preset of that name.
    """
    from .run.runner import run_suite
    from .steps.latents import index_folders
    from .suite.outputs import Outputs
    from .suite.settings import SuiteFile

    asked = given.settings()
    out, flags = (
        asked.out,
        {
            "harvest.rows": asked.rows,
            "train.steps": asked.steps,
            "sae.width": asked.width,
            "sae.sparsity": asked.sparsity or None,
            "seed": asked.seed,
        },
    )
    changes = [f"{name}={value}" for name, value in flags.items() if value is not None]
    file = SuiteFile(Path("demo"), [f"out={out}", *changes, *asked.changes])
    run_suite(file)
    typer.echo(f"report: {out / 'report.html'}")
    for folder in index_folders(Outputs(file)).values():
        where = out / folder.relative_to(file.suite.out.absolute())
        typer.echo(f"latents: {where / 'index.html'}")
        typer.echo(
            f"to steer with them: scopeworks latents serve {where} --model {file.suite.model}"
        )


def main() -> None:
    """Entry point: known errors become one line and exit code 2."""
    run_command(_parsed_and_run)


def _parsed_and_run() -> None:
    """Parses and runs the typed command; a command that cannot be parsed is a one-line error."""
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as error:
        text = error.format_message().replace("Value error, ", "")
        if not text:
            raise SystemExit(2) from None  # no command was given, and the help has been shown
        command = getattr(getattr(error, "ctx", None), "command_path", "scopeworks")
        return _refuse(f"{text.removesuffix('.')}; see `{command} --help`", error)
    raise SystemExit(code)


def _refuse(text: str, error: Exception) -> None:
    """Raises ValueError; of several ranks of torchrun, one does, and all end."""
    from ..train.ranks.joining import joined

    with joined():
        raise ValueError(text) from error
