"""`python -m scopeworks` is the `scopeworks` command."""

from .pipelines.cli import main

main()
