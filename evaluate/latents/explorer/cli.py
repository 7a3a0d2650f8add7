"""`scopeworks latents serve`: indexes in a browser."""

import typer

from ....options import Given, command
from .settings import ServeSettings

app = typer.Typer(no_args_is_help=True, add_completion=False)


@command(app, ServeSettings, arguments="index")
def serve(given: Given[ServeSettings]) -> None:
    """Shows indexes in a browser; with a model also what its latents do."""
    from .run import serve_indexes

    serve_indexes(given.settings())
