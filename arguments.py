"""Arguments of public functions: numbers, checked before they reach torch or transformers, and
arguments that may be one or several.

Owns the one-line errors for a value that is not the number it should be. Settings have their own
rules (`settings`).
"""

import math
import operator
import os
from collections.abc import Iterable, Mapping
from typing import Any


def whole(name: str, value: Any, least: int = 0) -> int:
    """A whole number from `least` on, as an int; numpy's and torch's integers are taken.

    Raises:
        ValueError: it is another value, a boolean, or smaller.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least or isinstance(value, bool):
        raise ValueError(f"{name} must be a whole number from {least} on, got {value!r:.80}")
    return number


def number(name: str, value: Any) -> float:
    """A number, which may be infinite, as a float; texts are not parsed.

    Raises:
        ValueError: it is another value, or NaN.
    """
    try:
        found = math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # torch raises RuntimeError
        found = math.nan
    if math.isnan(found):
        raise ValueError(f"{name} must be a number, got {value!r:.80}")
    return found


def several(value: Any) -> tuple[Any, ...]:
    """The entries of `value`. A text, a path or a mapping is one entry, though Python would iterate
    over its letters or keys; so is anything else that cannot be iterated over."""
    if isinstance(value, str | bytes | os.PathLike | Mapping) or not isinstance(value, Iterable):
        return (value,)
    return tuple(value)
