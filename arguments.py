"""Arguments of public functions: numbers and paths, checked before they reach torch or
transformers, dtypes by name or as torch has them, and arguments that may be one or several.

Owns the one-line errors for a value that is not the number or path it should be. Settings have
their own rules (`settings`).
"""

import math
import operator
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def whole(name: str, value: Any, least: int = 0, below: float = math.inf) -> int:
    """A whole number from `least` on, as an int; numpy's and torch's integers are taken.

    Raises:
        ValueError: it is another value, a boolean, smaller, or not `below`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if not least <= number < below or isinstance(value, bool):
        end = "on" if below == math.inf else f"to {below - 1}"
        raise ValueError(f"{name} must be a whole number from {least} {end}, got {value!r:.80}")
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


def path_of(name: str, value: Any) -> Path:
    """A path on this machine.

    Raises:
        ValueError: it is neither a text nor a path.
    """
    if not isinstance(value, str | os.PathLike) or isinstance(os.fspath(value), bytes):
        raise ValueError(f"{name} must be a path, got {value!r:.80}")
    return Path(value)


def dtype_name(value: Any) -> Any:
    """The name of a dtype of torch, such as float32; any other value as it is."""
    kind = type(value)
    is_dtype = (kind.__module__, kind.__name__) == ("torch", "dtype")
    return str(value).removeprefix("torch.") if is_dtype else value


def is_one(value: Any) -> bool:
    """Whether `value` is one thing: a text, a path or a mapping, though Python would iterate over
    its letters or keys, or what cannot be iterated over, such as an array of no dimensions."""
    if isinstance(value, str | bytes | os.PathLike | Mapping):
        return True
    try:
        iter(value)
    except TypeError:
        return True
    return False


def several(value: Any) -> tuple[Any, ...]:
    """The entries of `value`; of one thing (`is_one`), itself."""
    return (value,) if is_one(value) else tuple(value)
