"""Commands of whole runs: `scopeworks run`, `scopeworks status` and `scopeworks release`."""

from contextlib import nullcontext
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..suite.settings import SuiteFile

app = typer.Typer(no_args_is_help=True)

SuitePath = Annotated[Path, typer.Argument(help="Suite file (TOML), or the name of a preset.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", help="table.key=value over the file's; repeatable."),
]
StorageOption = Annotated[
    list[str] | None,
    typer.Option(help="key=value for the file systems of all URLs; repeatable."),
]


@app.command()
def run(
    suite: SuitePath,
    only: Annotated[str | None, typer.Option(help="The one step to run.")] = None,
    first: Annotated[str | None, typer.Option("--from", help="Step to begin with.")] = None,
    last: Annotated[str | None, typer.Option("--until", help="Step to end with.")] = None,
    share: Annotated[
        str | None, typer.Option(help="I/N: a share of the step --only, from 0/N on.")
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0, help="Minutes to wait for steps that others do.")
    ] = 0.0,
    dask: Annotated[
        str | None, typer.Option(help="Dask cluster for tokenize, harvest, train and evaluate.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be run, and run nothing.")
    ] = False,
    change: Changes = None,
    storage_option: StorageOption = None,
) -> None:
    """Runs a suite, from text to release; what is done stays, so the same command continues.

    With --only, exit code 75 says that what the step needs is not there yet, 74 that a disk or
    the network failed: run the same command again. 2 is an error to be repaired first.
    """
    from ...console import place_failures_apart
    from ...store.place.options import parse_storage_options
    from ...workers.share import Share
    from ..suite.settings import SuiteFile
    from .runner import run as run_suite

    options = parse_storage_options(storage_option)
    changes = [*(change or ()), *([f"dask={dask}"] if dask else [])]
    with place_failures_apart() if only else nullcontext():
        run_suite(
            SuiteFile(suite, changes, options),
            only=only,
            first=first,
            last=last,
            share=Share.parse(share),
            wait_s=60 * wait,
            dry_run=dry_run,
        )


@app.command()
def status(
    suite: Annotated[
        list[str],
        typer.Argument(help="Suite file, or a preset's name; with --unused several, then a URL."),
    ],
    unused: Annotated[
        bool,
        typer.Option("--unused", help="List the stores at the URL that no suite refers to."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    change: Changes = None,
    storage_option: StorageOption = None,
) -> None:
    """Shows how far a suite is: each step's state, size, time and last error."""
    from ...store.place.options import parse_storage_options
    from ..suite.settings import SuiteFile

    options = parse_storage_options(storage_option)
    *names, last = suite
    if not unused and names:
        raise ValueError(f"suite must be one file, got {len(suite)}; several are for --unused")
    if unused and not names:
        raise ValueError(f"--unused must be given suites and then a URL, got {last} alone")
    files = [SuiteFile(Path(name), change or (), options) for name in names or [last]]
    for line in _unused(files, last, options, json) if unused else _status(files[0], json):
        typer.echo(line)


@app.command()
def release(
    path: Annotated[
        Path,
        typer.Argument(help="Suite file, a preset's name, or a folder: a release's or a run's."),
    ],
    push: Annotated[
        str | None, typer.Option(help="USER/REPOSITORY on the hub; made if it is not there.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch on the hub.")] = None,
    private: Annotated[
        bool | None, typer.Option("--private/--public", help="Whether others may see it.")
    ] = None,
    change: Changes = None,
    storage_option: StorageOption = None,
) -> None:
    """Checks a release against its SHA256SUMS and, with --push, brings it to the hub."""
    from ...store.place.options import parse_storage_options
    from ..release.push import push as push_release
    from ..release.sums import SUMS_FILE, check_release
    from ..suite.settings import SuiteFile, presets

    if path.is_dir() and str(path) not in presets():
        if change or storage_option:
            raise ValueError(f"--set and --storage-option have no effect on a folder, got {path}")
        inner = path / "release"
        folder = inner if (inner / SUMS_FILE).is_file() else path
    else:
        options = parse_storage_options(storage_option)
        folder = _finished(SuiteFile(path, change or (), options))
    if push is not None:
        address = push_release(folder, push, revision=revision, private=private)
        typer.echo(f"pushed: {address}")
    elif revision is not None or private is not None:
        raise ValueError("--revision, --private and --public have no effect without --push")
    else:
        typer.echo(f"{folder}: {len(check_release(folder))} files as released")


def _finished(file: "SuiteFile") -> Path:
    """The folder of a suite's release, once it is of these very settings and inputs."""
    from ..steps.release import STEP
    from ..suite.outputs import Outputs
    from .runner import command

    outputs = Outputs(file)
    if not STEP.state(outputs).complete:
        raise FileNotFoundError(
            f"suite {file.given} must have its release in {outputs.release}, of what the file says "
            f"now; make it: {command(file)}"
        )
    return outputs.release


def _status(file: "SuiteFile", json: bool) -> list[str]:
    """How far a suite is."""
    from .status import as_json, as_lines
    from .status import status as look

    rows = look(file)
    return [dumps(as_json(file, rows), indent=2)] if json else as_lines(rows)


def _unused(files: "list[SuiteFile]", url: str, options: Any, json: bool) -> list[str]:
    """The stores at a URL that no suite refers to."""
    from ...store.place.place import Place
    from .unused import line
    from .unused import unused as look

    found = look(files, Place(url, options if Place(url).is_remote else None))
    total = sum(entry.stored_bytes or 0 for entry in found)
    if json:
        stores = [{"url": entry.url, "bytes": entry.stored_bytes} for entry in found]
        return [dumps({"unused": stores, "bytes": total}, indent=2)]
    return [
        *map(line, found),
        f"{len(found)} stores, {total / 1e9:,.3f} GB, in no suite named here",
    ]
