"""Commands of the harvest stage: `scopeworks tokenize` and `scopeworks harvest`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)

Config = Annotated[Path | None, typer.Option(help="TOML file of settings; flags win.")]
Model = Annotated[str | None, typer.Option(help="Folder or hub id of a Gemma 2.")]


@app.command()
def tokenize(
    model: Model = None,
    text: Annotated[
        list[str] | None,
        typer.Option(help="File, folder, glob, URL, or - for standard input; repeat for more."),
    ] = None,
    more_text: Annotated[list[str] | None, typer.Argument(metavar="[PATH]...")] = None,
    out: Annotated[str | None, typer.Option(help="Folder or URL of the token store.")] = None,
    context: Annotated[int | None, typer.Option(help="Tokens per sequence [1024].")] = None,
    packing: Annotated[
        str | None, typer.Option(help="concatenate, document or chat [concatenate].")
    ] = None,
    held_out: Annotated[
        float | None, typer.Option(help="Share of documents never trained on [0.05].")
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(help="Training tokens after which reading stops.")
    ] = None,
    text_field: Annotated[
        str | None, typer.Option(help="Field of a JSONL or Parquet row with its text [text].")
    ] = None,
    subset_field: Annotated[
        str | None, typer.Option(help="Field with the row's subset, for evaluation by subset.")
    ] = None,
    skip_bad: Annotated[
        bool | None, typer.Option("--skip-bad", help="Count unreadable documents and go on.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the sequences' order [0].")] = None,
    config: Config = None,
) -> None:
    """Turns text into a store of token sequences, a held-out share split off."""
    from ..settings import resolve
    from .tokenize import TokenizeSettings
    from .tokenize import tokenize as run

    settings = resolve(
        TokenizeSettings,
        config,
        model=model,
        text=[*(text or []), *(more_text or [])] or None,
        out=out,
        context=context,
        packing=packing,
        held_out=held_out,
        tokens=tokens,
        text_field=text_field,
        subset_field=subset_field,
        skip_bad=skip_bad,
        seed=seed,
    )
    typer.echo(str(run(settings)))


@app.command()
def harvest(
    model: Model = None,
    tokens: Annotated[str | None, typer.Option(help="URL of the token store.")] = None,
    store: Annotated[str | None, typer.Option(help="Folder or URL of the activations.")] = None,
    site: Annotated[
        list[str] | None,
        typer.Option(help="resid_post.12, mlp_out.0-12, attn_out.*, …; repeat for more."),
    ] = None,
    rows: Annotated[int | None, typer.Option(help="Rows to harvest [all].")] = None,
    split: Annotated[str | None, typer.Option(help="Split of the token store [train].")] = None,
    codec: Annotated[str | None, typer.Option(help="exact, fast or float32 [exact].")] = None,
    bucket_rows: Annotated[
        int | None, typer.Option(help="Rows shuffled and committed together [about 10^6].")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="bfloat16 or float32 [bfloat16].")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, … [auto].")] = None,
    attention: Annotated[
        str | None, typer.Option(help="Attention implementation with soft-cap [eager].")
    ] = None,
    batch_sequences: Annotated[
        int | None, typer.Option(help="Sequences in one forward pass [about 4,096 tokens].")
    ] = None,
    memory_gib: Annotated[
        float | None, typer.Option(help="GiB for rows on their way to the store [2].")
    ] = None,
    mask_token: Annotated[
        list[int] | None, typer.Option(help="Token id whose rows are dropped too; repeat for more.")
    ] = None,
    outlier: Annotated[
        float | None, typer.Option(help="Drop rows whose norm is over this times the median.")
    ] = None,
    dask: Annotated[
        str | None, typer.Option(help="local:N, a scheduler's address, or a scheduler file.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the rows' order [0].")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it will take; write nothing.")
    ] = False,
    config: Config = None,
) -> None:
    """Runs the model over a token store and writes the sites' activations, shuffled."""
    from ..settings import resolve
    from .estimate import estimate
    from .harvest import HarvestSettings
    from .harvest import harvest as run

    settings = resolve(
        HarvestSettings,
        config,
        model=model,
        tokens=tokens,
        store=store,
        site=site or None,
        rows=rows,
        split=split,
        codec=codec,
        bucket_rows=bucket_rows,
        dtype=dtype,
        device=device,
        attention=attention,
        batch_sequences=batch_sequences,
        memory_gib=memory_gib,
        mask_token=mask_token or None,
        outlier=outlier,
        dask=dask,
        seed=seed,
    )
    if dry_run:
        typer.echo(str(estimate(settings)))
        return
    spec = run(settings)
    typer.echo(f"{spec.rows:,} rows of {', '.join(spec.sites)} in {settings.store}")
