"""The indexes that are served: opened, checked, and each with a unique name.

Owns which files of an index's folder a browser may read. Ratings are not served: they name people.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..files.folder import LatentIndex, open_index

SHOWN = ("index.html", "index.json", "app", "data", "features", "tables")
"""What is served of an index's folder: these files, and everything in these folders."""


_OTHERS = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Served:
    """An index and the name that its address has."""

    name: str
    """The folder's name, with its parents' names if two are equal; the address is /NAME/."""
    index: LatentIndex

    @property
    def folder(self) -> Path:
        """The index's folder."""
        return self.index.folder


def served_indexes(folders: Sequence[str | Path]) -> list[Served]:
    """Opens indexes and names them.

    Raises:
        OSError: an index is missing or unfinished.
        ValueError: an index is damaged, or a folder is given twice.
    """
    paths = [Path(folder) for folder in folders]
    whole = [path.resolve() for path in paths]
    if double := [path for path, n in Counter(whole).items() if n > 1]:
        raise ValueError(f"every index must be given once, got {double[0]} more than once")
    names = _names(whole)
    opened = [open_index(path) for path in paths]
    return [Served(name, index) for name, index in zip(names, opened, strict=True)]


def _names(paths: Sequence[Path]) -> list[str]:
    """Folders' names, fit for an address; if two are equal, their parents' names come in front."""
    longest = max(len(path.parts) for path in paths)
    names: list[str] = []
    for n in range(1, longest + 1):
        names = [
            _OTHERS.sub("-", "-".join(path.parts[-n:])).strip("-.") or "index" for path in paths
        ]
        if len(set(names)) == len(names):
            return names
    return [f"{name}-{i}" for i, name in enumerate(names)]
