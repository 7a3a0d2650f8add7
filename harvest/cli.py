"""Commands of the harvest stage: `scopeworks tokenize`, `rollouts` and `harvest`."""

import typer

from . import flags

app = typer.Typer(no_args_is_help=True)


@app.command()
def tokenize(
    model: flags.TokenizerModel = None,
    text: flags.Text = None,
    more_text: flags.MoreText = None,
    out: flags.Out = None,
    context: flags.Context = None,
    packing: flags.Packing = None,
    held_out: flags.HeldOut = None,
    tokens: flags.TokenBudget = None,
    text_field: flags.TextField = None,
    subset_field: flags.SubsetField = None,
    min_characters: flags.MinCharacters = None,
    skip_bad: flags.SkipBad = None,
    dask: flags.Dask = None,
    storage_option: flags.StorageOption = None,
    seed: flags.OrderSeed = None,
    config: flags.Config = None,
) -> None:
    """Turns text into a store of token sequences, a held-out share split off."""
    given = flags.given(locals())

    from ..settings import resolve
    from .settings import TokenizeSettings
    from .tokens.run import tokenize as run

    texts = [*given.pop("text", []), *given.pop("more_text", [])]
    settings = resolve(TokenizeSettings, given.pop("config", None), text=texts or None, **given)
    typer.echo(str(run(settings)))


@app.command()
def rollouts(
    model: flags.ChatModel = None,
    text: flags.Prompts = None,
    out: flags.Out = None,
    n: flags.Conversations = None,
    new_tokens: flags.NewTokens = None,
    context: flags.ChatContext = None,
    temperature: flags.Temperature = None,
    text_field: flags.TextField = None,
    batch: flags.ChatBatch = None,
    dtype: flags.ChatDtype = None,
    device: flags.Device = None,
    storage_option: flags.StorageOption = None,
    seed: flags.ChatSeed = None,
    config: flags.Config = None,
) -> None:
    """Samples an instruction-tuned model's answers to prompts, as held-out token sequences."""
    given = flags.given(locals())

    from ..settings import resolve
    from .settings import RolloutSettings
    from .tokens.rollouts import rollouts as run

    typer.echo(str(run(resolve(RolloutSettings, given.pop("config", None), **given))))


@app.command()
def harvest(
    model: flags.HarvestModel = None,
    tokens: flags.Tokens = None,
    store: flags.Store = None,
    site: flags.SiteList = None,
    rows: flags.Rows = None,
    split: flags.Split = None,
    codec: flags.Codec = None,
    bucket_rows: flags.BucketRows = None,
    dtype: flags.Dtype = None,
    device: flags.Device = None,
    device_map: flags.DeviceMap = None,
    attention: flags.Attention = None,
    compile: flags.Compile = None,
    batch_sequences: flags.BatchSequences = None,
    memory_gib: flags.MemoryGib = None,
    mask_token: flags.MaskToken = None,
    outlier: flags.Outlier = None,
    drop_nonfinite: flags.DropNonfinite = None,
    dask: flags.Dask = None,
    storage_option: flags.StorageOption = None,
    seed: flags.RowSeed = None,
    dry_run: flags.DryRun = False,
    config: flags.Config = None,
) -> None:
    """Runs the model over a token store and writes the sites' activations, shuffled."""
    given = flags.given(locals())

    from ..settings import resolve
    from .rows.estimate import estimate
    from .rows.run import harvest as run
    from .settings import HarvestSettings

    del given["dry_run"]
    settings = resolve(HarvestSettings, given.pop("config", None), **given)
    typer.echo(str((estimate if dry_run else run)(settings)))
