"""`--storage-option key=value` as fsspec wants it. Owns the parsing only."""

import json
from collections.abc import Iterable
from typing import Any


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
