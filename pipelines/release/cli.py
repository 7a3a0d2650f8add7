"""The command `scopeworks release`: checks a release, and brings it to the hub."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)


@app.command()
def release(
    path: Annotated[Path, typer.Argument(help="Folder of a release, or the suite file of a run.")],
    push: Annotated[
        str | None, typer.Option(help="USER/REPOSITORY on the hub; made if it is not there.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch on the hub.")] = None,
    private: Annotated[
        bool | None, typer.Option("--private/--public", help="Of a repository that is made.")
    ] = None,
) -> None:
    """Checks a release against its SHA256SUMS and, with --push, brings it to the hub."""
    from .push import push as push_release
    from .sums import check_release

    folder = path if path.is_dir() else _folder_of(path)
    if push is None:
        given = {"--revision": revision, "--private": private}
        for name, value in given.items():
            if value is not None:
                raise ValueError(f"{name} has no effect without --push; leave it out")
        typer.echo(f"{folder}: {len(check_release(folder))} files as released")
        return
    typer.echo(f"pushed: {push_release(folder, push, revision=revision, private=private)}")


def _folder_of(path: Path) -> Path:
    """The folder of a suite's release."""
    from ..suite.outputs import Outputs
    from ..suite.settings import SuiteFile

    return Outputs(SuiteFile(path, [])).release
