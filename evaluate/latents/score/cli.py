"""The command `scopeworks latents score`."""

import typer

from ....options import Given, command
from .settings import ScoreSettings

app = typer.Typer(no_args_is_help=True, add_completion=False)


@command(
    app,
    ScoreSettings,
    "scorer explainer endpoint llm key_from llm_model dry_run price_in price_out seed",
    arguments="index",
    no_args_is_help=True,
)
def score(given: Given[ScoreSettings]) -> None:
    """Scores explanations beside controls: shuffled ones, a random SAE's, and token unigrams."""
    from .run import score as run

    for line in run(given.settings()):
        typer.echo(line)
