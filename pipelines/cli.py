"""The `scopeworks` command: every stage's commands joined, plus whole runs."""

from pathlib import Path
from typing import Annotated

import typer

from ..console import run_command
from ..evaluate.cli import app as evaluate_app
from ..harvest.cli import app as harvest_app
from ..store.cli import app as store_app
from ..train.cli import app as train_app
from .run.cli import app as run_app

app = typer.Typer(
    name="scopeworks",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Gemma Scope end to end: harvest activations once, train JumpReLU SAEs from them again "
    "and again, evaluate and release them.",
)
app.add_typer(harvest_app)
app.add_typer(store_app, name="store")
app.add_typer(train_app)
app.add_typer(evaluate_app)
app.add_typer(run_app)


@app.command()
def demo(
    out: Annotated[Path | None, typer.Option(help="Folder for everything the demo makes.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file of settings; flags win.")] = None,
    rows: Annotated[int | None, typer.Option(help="Activation rows to harvest.")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps for each SAE.")] = None,
    width: Annotated[int | None, typer.Option(help="Latents of each SAE.")] = None,
    sparsity: Annotated[
        list[float] | None, typer.Option(help="λ of one SAE; repeat for more SAEs.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every shuffle and start.")] = None,
) -> None:
    """Runs the whole system on the shipped tiny Gemma 2: a few minutes, ends in report.html."""
    from ..settings import resolve
    from .demo import DemoSettings, run_demo

    flags = {
        "rows": rows,
        "steps": steps,
        "width": width,
        "sparsity": sparsity or None,
        "seed": seed,
    }
    report = run_demo(resolve(DemoSettings, config, out=out, **flags))
    typer.echo(f"report: {report}")


def main() -> None:
    """Entry point: known errors become one line and exit code 2."""
    run_command(app)
