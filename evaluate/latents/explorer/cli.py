"""`scopeworks latents serve`: indexes in a browser."""

from pathlib import Path
from typing import Annotated

import typer

from ...flags import given

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.command()
def serve(
    index: Annotated[
        list[Path], typer.Argument(help="Folders that `latents index` made; one or several.")
    ],
    host: Annotated[
        str | None, typer.Option(help="Address to listen at; 127.0.0.1 by default.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port; 8000 by default, 0 for one that is free.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Language model, folder or hub id: a playground to steer in."),
    ] = None,
    sae: Annotated[
        list[str] | None,
        typer.Option(help="SAE of the playground, one an index; the manifest's by default."),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="auto, bfloat16 or float32, of the model.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="torch device; auto takes CUDA.")] = None,
) -> None:
    """Shows indexes in a browser; with a model also what its latents do."""
    values = given(locals())

    from ....settings import resolve
    from .run import serve_indexes
    from .settings import ServeSettings

    serve_indexes(resolve(ServeSettings, **values))
