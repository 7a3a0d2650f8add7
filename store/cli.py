"""`scopeworks store`: the commands that inspect, check and copy stores."""

from pathlib import Path
from typing import Any

import typer
from pydantic import Field, NonNegativeInt, PositiveInt

from ..options import Given, command
from .place.options import StorageSettings

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Look into an activation store.")


class InfoOptions(StorageSettings):
    """Settings of `scopeworks store info`."""

    url: list[str]
    """Path or URL of an activation store, or of several to join."""


@command(app, InfoOptions, arguments="url", config=False)
def info(given: Given[InfoOptions]) -> None:
    """Prints sites, rows, bytes, bits per value, C and mean norm of a store; of several stores, of
    each and of all joined."""
    from .read.joining import places_of
    from .read.reader import ActivationStore
    from .tools.describe import describe, described_as_one
    from .write.saturation import warn_of_saturation

    asked = given.settings()
    places = places_of(asked.url, asked.storage_options)
    for place in places:
        store = ActivationStore.open(place)
        warn_of_saturation(store.url, store.commits, store.spec, store.sites)
        for line in describe(store):
            typer.echo(line)
    if len(places) > 1:
        for line in described_as_one(ActivationStore.open(places)):
            typer.echo(line)


class ListOptions(StorageSettings):
    """Settings of `scopeworks store list`."""

    url: str
    """Path or URL of a store, or of a folder of stores."""
    as_json: bool = Field(default=False, alias="json")
    """Print JSON."""


@command(app, ListOptions, arguments="url", config=False, name="list")
def list_stores(given: Given[ListOptions]) -> None:
    """Lists the activation and token stores at a place or in the folders directly in it."""
    from json import dumps

    from .tools.catalogue import catalogue
    from .tools.describe import as_json, listed

    asked = given.settings()
    entries = catalogue(asked.url, asked.storage_options)
    if asked.as_json:
        typer.echo(dumps([as_json(entry) for entry in entries], indent=2))
        return
    for line in (line for entry in entries for line in listed(entry)):
        typer.echo(line)
    if not entries:
        raise FileNotFoundError(
            f"no store at {asked.url} or in a folder directly in it; `scopeworks harvest` makes one"
        )


class VerifyOptions(StorageSettings):
    """Settings of `scopeworks store verify`."""

    url: str
    """Path or URL (gs://, s3://, …) of an activation store."""
    withdraw: bool = False
    """Take damaged buckets out of the store; the same harvest command then writes them again."""
    clean: bool = False
    """First remove shards without a commit; refused if anything was written within the hour."""


@command(app, VerifyOptions, arguments="url", config=False)
def verify(given: Given[VerifyOptions]) -> None:
    """Reads every byte and checks it; lists what is damaged and ends with exit code 1 if anything
    is."""
    from ..console import progress
    from .tools.verify import verify_store, withdraw_buckets

    asked = given.settings()
    url, options = asked.url, asked.storage_options
    with progress("verify", None, "bytes") as bar:
        report = verify_store(url, options, clean=asked.clean, advance=bar.advance)
    for bucket, n in report.removed.items():
        typer.echo(f"removed: {n} shards of bucket {bucket}, which has no commit")
    for line in [*report.problems, *(f"note: {note}" for note in report.notes)]:
        typer.echo(line)
    typer.echo(
        f"{report.buckets} of {report.n_buckets} buckets committed,"
        f" {report.checked_bytes:,} bytes checked, {len(report.problems)} problems"
    )
    if asked.withdraw and report.damaged:
        withdraw_buckets(url, report.damaged, options)
        numbers = ", ".join(map(str, sorted(report.damaged)))
        typer.echo(f"withdrawn: bucket {numbers}; run the harvest again")
    raise typer.Exit(1 if report.problems else 0)


class CopyOptions(StorageSettings):
    """Settings of `scopeworks store copy`."""

    url: str
    """Path or URL (gs://, s3://, …) of an activation store."""
    target: str
    """Path or URL of the copy."""
    codec: str | None = None
    """Codec of the copy; by default the store's."""
    chunk_rows: PositiveInt | None = None
    """Rows per chunk of the copy; by default the store's."""
    shard_rows: PositiveInt | None = None
    """Rows per shard of the copy; by default the store's."""
    workers: NonNegativeInt = 0
    """Dask workers to start; 0 copies in this process."""
    scheduler: str | None = None
    """Address of a Dask scheduler to use instead."""
    storage_options: dict[str, Any] | None = Field(default=None, exclude=True, repr=False)
    """Options of the source's file system, as fsspec takes them."""
    target_options: dict[str, Any] | None = Field(default=None, exclude=True, repr=False)
    """Options of the target's file system, as fsspec takes them."""


@command(app, CopyOptions, arguments="url target", config=False)
def copy(given: Given[CopyOptions]) -> None:
    """Copies a store to another place, codec or chunking; run it again to continue."""
    from ..console import progress
    from .read.reader import ActivationStore
    from .tools.copy import copy_store

    asked = given.settings()
    url, target = asked.url, asked.target
    total = ActivationStore.open(url, asked.storage_options).rows
    with progress("copy", total, "rows") as bar:
        rows = copy_store(
            url,
            target,
            codec=asked.codec,
            chunk_rows=asked.chunk_rows,
            shard_rows=asked.shard_rows,
            source_options=asked.storage_options,
            target_options=asked.target_options,
            workers=asked.workers,
            scheduler=asked.scheduler,
            advance=bar.advance,
        )
    typer.echo(f"{rows:,} rows copied to {target}, {total - rows:,} were there")


class StatsOptions(StorageSettings):
    """Settings of `scopeworks store stats`."""

    url: str
    """Path or URL (gs://, s3://, …) of an activation store."""
    site: list[str] | None = None
    """Sites to look at; all by default."""
    rows: int = Field(default=65536, ge=2)
    """Rows of the sample."""
    plot: Path | None = None
    """Picture of norms, channels and kurtosis to write: .png, .svg or .pdf."""


@command(app, StatsOptions, arguments="url", config=False)
def stats(given: Given[StatsOptions]) -> None:
    """Prints norms, kurtosis, outlier channels and how well rows are mixed, from a sample."""
    from .read.reader import ActivationStore
    from .tools.mixing import mixing
    from .tools.plot import check_path
    from .tools.plot import plot as draw
    from .tools.statistics import site_statistics
    from .write.saturation import warn_of_saturation

    asked = given.settings()
    if asked.plot is not None:
        check_path(asked.plot)
    store = ActivationStore.open(asked.url, asked.storage_options)
    sites = asked.site or list(store.sites)
    warn_of_saturation(store.url, store.commits, store.spec, sites)
    found = []
    for name in sites:
        found.append(site_statistics(store, name, asked.rows))
        typer.echo(found[-1].line())
    typer.echo(mixing(store).line())
    if asked.plot is not None:
        draw(found, asked.plot)
        typer.echo(f"plot: {asked.plot}")
