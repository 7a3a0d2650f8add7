"""Documents that others may have written: parsed within bounds, then validated.

Owns the way from bytes to a checked value, and the error that names the file and what is wrong with
it; `settings` uses the same words. Each reader defines what its document must hold, as a `Document`
with types and bounds.
"""

import json
import math
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

_SHOWN_CHARACTERS = 60
_SHOWN_PROBLEMS = 3
_MOST_DIGITS = 4300  # Python's own bound


class Document(BaseModel):
    """Base of models of JSON documents: exact JSON types, no NaN or infinity, unknown keys
    ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)


DocumentT = TypeVar("DocumentT", bound=BaseModel)


def read_document(kind: type[DocumentT], data: bytes | str, where: str) -> DocumentT:
    """Parses and validates a JSON document.

    Args:
        kind: model of what it must hold.
        data: its bytes (UTF-8, UTF-16 or UTF-32) or text.
        where: the file's name, for errors.

    Raises:
        ValueError: it is not valid JSON, or does not fit `kind`; one line that names `where`.
    """
    return validated(kind, parse_json(data, where), where)


def parse_json(data: bytes | str, where: str) -> Any:
    """Parses JSON strictly (RFC 8259). NaN, infinities, numbers beyond float64, keys given twice
    and too deep nesting are errors; Python's own parser accepts the first four.

    Raises:
        ValueError: one line that names `where`.
    """
    try:
        return json.loads(
            data,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=whole_number,
            object_pairs_hook=_without_doubles,
        )
    except RecursionError as error:
        raise ValueError(f"{where} is not valid JSON: it is nested too deeply") from error
    except ValueError as error:  # a UnicodeDecodeError among them
        raise ValueError(f"{where} is not valid JSON: {one_line(error)}") from error


def validated(kind: type[DocumentT], value: Any, where: str) -> DocumentT:
    """A parsed value as a `kind`.

    Raises:
        ValueError: naming `where`, the wrong entries and what they must be.
    """
    try:
        # Through JSON again: only from JSON does a strict model accept an array as a tuple.
        return kind.model_validate_json(json.dumps(value))
    except RecursionError as error:
        raise ValueError(f"{where} is not valid JSON: it is nested too deeply") from error
    except ValidationError as error:
        problems = [explained(item) for item in error.errors()]
        more = f" and {len(problems) - _SHOWN_PROBLEMS} more" * (len(problems) > _SHOWN_PROBLEMS)
        text = "; ".join(problems[:_SHOWN_PROBLEMS])
        raise ValueError(f"{where} does not hold what it must: {text}{more}") from error


def one_line(error: BaseException) -> str:
    """The first line of another library's error, at most 300 characters."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def whole_number(text: str) -> int:
    """A JSON number without a fraction, as an integer.

    Raises:
        ValueError: it has thousands of digits, which Python parses slowly and no document needs.
    """
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(text):,} digits")
    return int(text)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:_SHOWN_CHARACTERS]} is beyond float64")
    return value


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The pairs as a dictionary; refuses a key given twice, because readers differ in which value
    they take."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {double[:_SHOWN_CHARACTERS]!r} is given twice")
    return found


def explained(item: Any) -> str:
    """One of pydantic's errors in one line: entry, rule, value."""
    name = ".".join(short(str(part)) for part in item["loc"]) or "the document"
    if item["type"] == "missing":
        return f"{name} is missing"
    message = item["msg"].removeprefix("Value error, ")
    return f"{name}: {message[:1].lower()}{message[1:]}, got {short(repr(item['input']))}"


def short(text: str, most: int = _SHOWN_CHARACTERS) -> str:
    """A text cut to `most` characters, with unprintable ones escaped, to fit into one line."""
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= most else f"{text[: most - 1]}…"
