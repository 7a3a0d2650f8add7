"""`scopeworks latents explain`: a sentence for each latent."""

from typing import Annotated

import typer

from ...flags import given
from . import flags

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.command(no_args_is_help=True)
def explain(
    index: flags.Index,
    store: flags.Store = None,
    tokens: flags.Tokens = None,
    model: flags.Model = None,
    sae: flags.SAE = None,
    latents: Annotated[str | None, typer.Option(help="Which, as 3,17.")] = None,
    n: Annotated[
        int | None, typer.Option(help="Or so many, evenly over firing frequency; 100.")
    ] = None,
    explainer: Annotated[
        str | None, typer.Option(help="llm or tokens; tokens asks no language model.")
    ] = None,
    endpoint: flags.Endpoint = None,
    llm: flags.Llm = None,
    llm_model: flags.LlmModel = None,
    key_from: flags.KeyFrom = None,
    prompts: flags.Prompts = None,
    dry_run: flags.DryRun = None,
    price_in: flags.PriceIn = None,
    price_out: flags.PriceOut = None,
    parallel: flags.Parallel = None,
    requests_per_minute: flags.PerMinute = None,
    timeout_s: flags.Timeout = None,
    attempts: flags.Attempts = None,
    tries: flags.Tries = None,
    most_tokens: flags.MostTokens = None,
    context: Annotated[int | None, typer.Option(help="Tokens in a context; 32.")] = None,
    explain: Annotated[int | None, typer.Option(help="Contexts that are shown; 40.")] = None,
    test: Annotated[
        int | None, typer.Option(help="Contexts kept to test, in which it fires; 50.")
    ] = None,
    silent: Annotated[
        int | None, typer.Option(help="Contexts kept to test, in which it does not; 50.")
    ] = None,
    hard: Annotated[
        int | None, typer.Option(help="More of them that hold one of its top tokens; 0.")
    ] = None,
    quantiles: Annotated[int | None, typer.Option(help="Bands of strength; 10.")] = None,
    rows: Annotated[int | None, typer.Option(help="Rows of the store; 10 million.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of every draw.")] = None,
    storage_option: flags.StorageOption = None,
    config: flags.Config = None,
) -> None:
    """Explains latents in a sentence each, and as many of a random SAE as a control."""
    values = given(locals())
    if "latents" in values:
        values["latents"] = flags.numbers(values["latents"], "latents")

    from ....settings import resolve
    from .run import explain as run
    from .settings import ExplainSettings

    for line in run(resolve(ExplainSettings, values.pop("config", None), **values)):
        typer.echo(line)
