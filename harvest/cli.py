"""Commands of the harvest stage: `scopeworks tokenize`, `rollouts` and `harvest`."""

from typing import Annotated

import typer

from ..options import Given, command
from .settings import HarvestSettings, RolloutSettings, TokenizeSettings

app = typer.Typer(no_args_is_help=True)


@command(app, TokenizeSettings, "model text out context packing held_out tokens")
def tokenize(
    given: Given[TokenizeSettings],
    path: Annotated[
        list[str] | None, typer.Argument(metavar="PATH", help="More text, as --text takes it.")
    ] = None,
) -> None:
    """Turns text into a store of token sequences, and holds a share of the documents out."""
    from .tokens.run import tokenize_text as run

    text = [*given.values.get("text", ()), *(path or ())]
    typer.echo(str(run(given.settings(text=text or None))))


@command(app, RolloutSettings, "model text out n new_tokens context device")
def rollouts(given: Given[RolloutSettings]) -> None:
    """Samples an instruction-tuned model's answers to prompts, as held-out token sequences."""
    from .tokens.rollouts import sample_rollouts as run

    typer.echo(str(run(given.settings())))


@command(app, HarvestSettings, "model tokens store site rows codec dtype device dask")
def harvest(
    given: Given[HarvestSettings],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it will take; write nothing.")
    ] = False,
) -> None:
    """Runs the model over a token store and writes the sites' activations, shuffled."""
    from .rows.estimate import estimate_harvest
    from .rows.run import harvest_rows as run

    typer.echo(str((estimate_harvest if dry_run else run)(given.settings())))
