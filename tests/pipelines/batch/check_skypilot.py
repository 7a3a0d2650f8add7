"""Loads rendered tasks with SkyPilot's own parser, in an environment of its own: `python
check_skypilot.py FOLDER`; ends with an error for the first that is refused."""

import sys
from pathlib import Path

import sky  # pyright: ignore[reportMissingImports]

tasks = [sky.Task.from_yaml(str(path)) for path in sorted(Path(sys.argv[1]).rglob("*.yaml"))]
print(len(tasks))
