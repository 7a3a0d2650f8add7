"""How storage options are given: `--storage-option key=value` on a command line, and in settings,
for all their URLs."""

import json
from collections.abc import Iterable
from typing import Any

from pydantic import Field

from ...settings import Settings
from .place import Place


class StorageSettings(Settings):
    """Base of settings that name places."""

    storage_options: dict[str, Any] | None = Field(default=None, exclude=True, repr=False)
    """Options of the file systems of all URLs, as fsspec takes them. They may hold secrets: they
    are written nowhere and must be given again by whoever continues."""

    def place(self, url: str) -> Place:
        """The place of one of the URLs; local paths have no options."""
        return Place(url, self.storage_options if Place(url).is_remote else None)


def parse_storage_options(pairs: Iterable[str] | None) -> dict[str, Any] | None:
    """Pairs as a dictionary; a value that is JSON (a number, true, {…}) is read as such.

    Raises:
        ValueError: a pair has no "=", or a key is given twice.
    """
    options: dict[str, Any] = {}
    for pair in pairs or ():
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise ValueError(f"--storage-option must be key=value, got {pair!r}")
        if key in options:
            raise ValueError(f"--storage-option {key} must be given once, got it twice")
        try:
            options[key] = json.loads(value)
        except ValueError:
            options[key] = value
    return options or None
