"""`scopeworks latents score`: what explanations are worth, beside controls."""

from typing import Annotated

import typer

from ...flags import given
from ..explain import flags

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.command(no_args_is_help=True)
def score(
    index: flags.Index,
    scorer: Annotated[
        list[str] | None,
        typer.Option(
            help="detection, fuzzing, simulation or tokens; repeat for more. tokens asks no "
            "language model."
        ),
    ] = None,
    explainer: Annotated[
        str | None, typer.Option(help="Whose explanations: llm or tokens.")
    ] = None,
    endpoint: flags.Endpoint = None,
    llm: flags.Llm = None,
    llm_model: flags.LlmModel = None,
    key_from: flags.KeyFrom = None,
    prompts: flags.Prompts = None,
    examples_per_prompt: Annotated[
        int | None,
        typer.Option(help="Test contexts in a prompt; 1 by default: more tell of one another."),
    ] = None,
    dry_run: flags.DryRun = None,
    price_in: flags.PriceIn = None,
    price_out: flags.PriceOut = None,
    parallel: flags.Parallel = None,
    requests_per_minute: flags.PerMinute = None,
    timeout_s: flags.Timeout = None,
    attempts: flags.Attempts = None,
    tries: flags.Tries = None,
    most_tokens: flags.MostTokens = None,
    store: flags.Store = None,
    tokens: flags.Tokens = None,
    model: flags.Model = None,
    sae: flags.SAE = None,
    seed: Annotated[int | None, typer.Option(help="Of the shuffles and intervals.")] = None,
    storage_option: flags.StorageOption = None,
    config: flags.Config = None,
) -> None:
    """Scores explanations beside controls: shuffled ones, a random SAE's, and token unigrams."""
    values = given(locals())

    from ....settings import resolve
    from .run import score as run
    from .settings import ScoreSettings

    for line in run(resolve(ScoreSettings, values.pop("config", None), **values)):
        typer.echo(line)
