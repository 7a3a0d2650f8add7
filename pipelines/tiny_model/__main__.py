"""`python -m scopeworks.pipelines.tiny_model --out DIR`: makes the tiny Gemma 2."""

import typer

from .base import main

typer.run(main)
