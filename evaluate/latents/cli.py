"""`scopeworks latents`: the commands of this folder's folders, joined."""

import typer

from .explorer.cli import app as serve_app
from .index.cli import app as index_app
from .rate.cli import app as rate_app

app = typer.Typer(no_args_is_help=True, help="Look at latents one by one, explain and rate them.")
for one in (index_app, serve_app, rate_app):
    app.add_typer(one)
