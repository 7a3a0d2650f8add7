"""`scopeworks latents rate`: people rate latents, blind to the SAE they are of."""

from pathlib import Path
from typing import Annotated

import typer

from ...flags import given

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.command()
def rate(
    index: Annotated[
        list[Path] | None, typer.Argument(help="Folders that `latents index` made, one an SAE.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the ratings; each rater has a file in it.")
    ] = None,
    rater: Annotated[str | None, typer.Option(help="Who rates; names the rater's file.")] = None,
    n: Annotated[
        int | None, typer.Option(help="Latents of each SAE, evenly over firing frequency; 50.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the draw and the orders.")] = None,
    port: Annotated[
        int | None, typer.Option(help="On 127.0.0.1; 8780 by default, or one that is free.")
    ] = None,
    table: Annotated[
        bool | None,
        typer.Option("--table", help="Instead of a page: shares and agreement in --out so far."),
    ] = None,
) -> None:
    """Serves a page on which a person rates latents YES, MAYBE or NO, blind to their SAE."""
    values = given(locals())
    from ....settings import resolve
    from .ratings import read_ratings
    from .ratings import table as lines_of
    from .run import RateSettings
    from .run import rate as run

    if index is None and not table:
        raise ValueError(
            "index must be given: a folder that `scopeworks latents index` made, or several; or "
            "--table for what has been rated"
        )
    if not values.pop("table", False):
        run(resolve(RateSettings, **values))
        return
    others = [name for name in values if name != "out"]
    if others or out is None:
        raise ValueError(
            f"--table must be given --out and nothing else, got {', '.join(others) or 'no --out'}"
        )
    for line in lines_of(read_ratings(out)):
        typer.echo(line)
