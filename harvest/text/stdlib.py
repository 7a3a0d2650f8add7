"""The text that every machine with Python has: the standard library's sources.

The tiny model is trained on it and the demo harvests it. About 12 MB, 3.5 characters a token.
"""

import sysconfig
from pathlib import Path

STDLIB = "python:stdlib"
"""Stands for these sources wherever text is named."""

_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "__pycache__"}


def stdlib_sources() -> list[Path]:
    """The standard library's Python sources without its tests: absolute paths, sorted."""
    root = Path(sysconfig.get_path("stdlib"))
    paths = (path for path in root.rglob("*.py") if path.is_file())
    return sorted(path for path in paths if not _LEFT_OUT & set(path.relative_to(root).parts))
