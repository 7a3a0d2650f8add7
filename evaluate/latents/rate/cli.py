"""`scopeworks latents rate`: people rate latents without seeing which SAE each is of."""

from typing import Annotated

import typer

from ....options import Given, command
from .settings import RateSettings

app = typer.Typer(no_args_is_help=True, add_completion=False)


@command(app, RateSettings, arguments="index")
def rate(
    given: Given[RateSettings],
    table: Annotated[
        bool,
        typer.Option("--table", help="Instead of a page: shares and agreement in --out so far."),
    ] = False,
) -> None:
    """Serves a page on which a person rates latents YES, MAYBE or NO, blind to their SAE."""
    from .ratings import read_ratings
    from .ratings import table as lines_of
    from .run import rate as run

    if not table:
        run(given.settings())
        return
    others = [name for name in given.values if name != "out"]
    if others or "out" not in given.values:
        raise ValueError(
            f"--table must be given --out and nothing else, got {', '.join(others) or 'no --out'}"
        )
    for line in lines_of(read_ratings(given.values["out"])):
        typer.echo(line)
