"""`scopeworks latents`: the commands of this folder's folders, joined."""

import typer

from .explain.cli import app as explain_app
from .explorer.cli import app as serve_app
from .index.cli import app as index_app
from .rate.cli import app as rate_app
from .score.cli import app as score_app

app = typer.Typer(no_args_is_help=True, help="Look at latents one by one, explain and rate them.")
for one in (index_app, serve_app, explain_app, score_app, rate_app):
    app.add_typer(one)
