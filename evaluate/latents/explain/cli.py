"""`scopeworks latents explain`: a sentence for each latent."""

import typer

from ....options import Given, command
from .settings import ExplainSettings

app = typer.Typer(no_args_is_help=True, add_completion=False)


@command(
    app,
    ExplainSettings,
    "latents n explainer endpoint llm key_from llm_model dry_run price_in price_out rows seed",
    arguments="index",
    no_args_is_help=True,
)
def explain(given: Given[ExplainSettings]) -> None:
    """Explains latents in a sentence each, and as many of a random SAE as a control."""
    from .run import explain_latents

    for line in explain_latents(given.settings()):
        typer.echo(line)
