"""Options of remote stores: `--storage-option key=value` as fsspec wants it, for which URLs they
hold, and how much a read cache keeps unless told."""

import json
from collections.abc import Iterable
from typing import Any

CACHE_BYTES = 64 * 2**30


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


def is_remote(url: str) -> bool:
    """Whether a path is a URL of another file system than this machine's."""
    return "://" in url and not url.startswith("file://")


def options_for(url: str, storage_options: dict[str, Any] | None) -> dict[str, Any] | None:
    """The storage options that hold for a URL: local paths have none."""
    return storage_options if is_remote(url) else None
