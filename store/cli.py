"""`scopeworks store`: look into an activation store and check it."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Look into an activation store.")

Url = Annotated[str, typer.Argument(help="Path or URL (gs://, s3://, …) of an activation store.")]
Options = Annotated[
    list[str] | None,
    typer.Option("--storage-option", help="key=value for the file system; repeatable."),
]


@app.command()
def info(
    url: Annotated[
        list[str], typer.Argument(help="Path or URL of an activation store, or of several to join.")
    ],
    storage_option: Options = None,
) -> None:
    """What the store holds: sites, rows, bytes, bits per value, C and mean norm. Of several, what
    each holds, and what they are joined."""
    from .place.options import parse_storage_options
    from .read.joining import places_of
    from .read.reader import ActivationStore
    from .tools.describe import describe, described_as_one
    from .write.saturation import warn_of_saturation

    places = places_of(url, parse_storage_options(storage_option))
    for place in places:
        store = ActivationStore.open(place)
        warn_of_saturation(store.url, store.commits, store.spec, store.sites)
        for line in describe(store):
            typer.echo(line)
    if len(places) > 1:
        for line in described_as_one(ActivationStore.open(places)):
            typer.echo(line)


@app.command("list")
def list_stores(
    url: Annotated[str, typer.Argument(help="Folder or URL that holds stores, or a store.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    storage_option: Options = None,
) -> None:
    """Which activation and token stores are at a place or in the folders directly in it."""
    from json import dumps

    from .place.options import parse_storage_options
    from .tools.catalogue import catalogue
    from .tools.describe import as_json, listed

    entries = catalogue(url, parse_storage_options(storage_option))
    if json:
        typer.echo(dumps([as_json(entry) for entry in entries], indent=2))
        return
    for line in (line for entry in entries for line in listed(entry)):
        typer.echo(line)
    if not entries:
        raise FileNotFoundError(
            f"no store at {url} or in a folder directly in it; `scopeworks harvest` makes one"
        )


@app.command()
def verify(
    url: Url,
    withdraw: Annotated[
        bool,
        typer.Option(
            "--withdraw",
            help="Take damaged buckets out of the store; the harvest, run again, writes them anew.",
        ),
    ] = False,
    clean: Annotated[
        bool,
        typer.Option(
            "--clean",
            help="First remove shards without a commit; refused within an hour of any writing.",
        ),
    ] = False,
    storage_option: Options = None,
) -> None:
    """Checks every commit and every checksum; exit code 1 and a list if something is damaged."""
    from ..console import progress
    from .place.options import parse_storage_options
    from .tools import verify as checking

    options = parse_storage_options(storage_option)
    with progress("verify", None, "bytes") as bar:
        report = checking.verify(url, options, clean=clean, advance=bar.advance)
    for bucket, n in report.removed.items():
        typer.echo(f"removed: {n} shards of bucket {bucket}, which has no commit")
    for line in [*report.problems, *(f"note: {note}" for note in report.notes)]:
        typer.echo(line)
    typer.echo(
        f"{report.buckets} of {report.n_buckets} buckets committed,"
        f" {report.checked_bytes:,} bytes checked, {len(report.problems)} problems"
    )
    if withdraw and report.damaged:
        checking.withdraw(url, report.damaged, options)
        numbers = ", ".join(map(str, sorted(report.damaged)))
        typer.echo(f"withdrawn: bucket {numbers}; run the harvest again")
    raise typer.Exit(1 if report.problems else 0)


@app.command()
def copy(
    url: Url,
    target: Annotated[str, typer.Argument(help="Path or URL of the copy.")],
    codec: Annotated[str | None, typer.Option(help="Codec of the copy.")] = None,
    chunk_rows: Annotated[int | None, typer.Option(help="Rows per chunk of the copy.")] = None,
    shard_rows: Annotated[int | None, typer.Option(help="Rows per shard of the copy.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Dask workers to start; 0: none.")] = 0,
    scheduler: Annotated[str | None, typer.Option(help="Address of a Dask scheduler.")] = None,
    storage_option: Options = None,
    target_option: Annotated[
        list[str] | None,
        typer.Option("--target-option", help="key=value for the target's file system; repeatable."),
    ] = None,
) -> None:
    """Copies a store to another place, codec or chunking; the same command continues."""
    from ..console import progress
    from .place.options import parse_storage_options
    from .read.reader import ActivationStore
    from .tools.copy import copy as run

    options = parse_storage_options(storage_option)
    total = ActivationStore.open(url, options).rows
    with progress("copy", total, "rows") as bar:
        rows = run(
            url,
            target,
            codec=codec,
            chunk_rows=chunk_rows,
            shard_rows=shard_rows,
            source_options=options,
            target_options=parse_storage_options(target_option),
            workers=workers,
            scheduler=scheduler,
            advance=bar.advance,
        )
    typer.echo(f"{rows:,} rows copied to {target}, {total - rows:,} were there")


@app.command()
def stats(
    url: Url,
    site: Annotated[list[str] | None, typer.Option(help="Sites; all by default.")] = None,
    rows: Annotated[int, typer.Option(min=2, help="Rows to look at.")] = 65536,
    plot: Annotated[
        Path | None, typer.Option(help="Picture of norms, channels and kurtosis: .png, .svg, .pdf.")
    ] = None,
    storage_option: Options = None,
) -> None:
    """Norms, kurtosis, outlier channels and how well the rows are mixed, from a sample of rows."""
    from .place.options import parse_storage_options
    from .read.reader import ActivationStore
    from .tools.mixing import mixing
    from .tools.plot import check_path
    from .tools.plot import plot as draw
    from .tools.statistics import site_statistics
    from .write.saturation import warn_of_saturation

    if plot is not None:
        check_path(plot)
    store = ActivationStore.open(url, parse_storage_options(storage_option))
    sites = site or list(store.sites)
    warn_of_saturation(store.url, store.commits, store.spec, sites)
    found = []
    for name in sites:
        found.append(site_statistics(store, name, rows))
        typer.echo(found[-1].line())
    typer.echo(mixing(store).line())
    if plot is not None:
        draw(found, plot)
        typer.echo(f"plot: {plot}")
