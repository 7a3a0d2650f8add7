"""Documents that this program may not have written: parsed within bounds, validated, then used.

Owns the way from bytes to a checked value, and the error that names the file and what is wrong with
it; `settings` says it in the same words. What a document must hold is said by its reader, as a
`Document` with types and bounds.
"""

import json
import math
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

_SHOWN_CHARACTERS = 60
_SHOWN_PROBLEMS = 3
_MOST_DIGITS = 4300  # Python's own bound


class Document(BaseModel):
    """Base of what a document must hold: exact JSON types, no NaN or infinity, and no opinion on
    keys that the reader does not know."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)


DocumentT = TypeVar("DocumentT", bound=BaseModel)


def read_document(kind: type[DocumentT], data: bytes | str, where: str) -> DocumentT:
    """Parses and validates a JSON document.

    Args:
        kind: what it must hold.
        data: its bytes (UTF-8, UTF-16 or UTF-32) or text.
        where: the file's name, for errors.

    Raises:
        ValueError: it is no JSON, or does not hold what it must; one line that names `where`.
    """
    return validated(kind, parse_json(data, where), where)


def parse_json(data: bytes | str, where: str) -> Any:
    """JSON as its standard has it (RFC 8259), which Python's parser widens: NaN, infinities,
    numbers beyond float64 and keys given twice are errors, and so is nesting that overflows.

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
    """A parsed value as `kind`.

    Raises:
        ValueError: naming `where`, the entries that are wrong and what they must be.
    """
    try:
        # By way of JSON, where a strict model takes an array for a tuple.
        return kind.model_validate_json(json.dumps(value))
    except RecursionError as error:
        raise ValueError(f"{where} is not valid JSON: it is nested too deeply") from error
    except ValidationError as error:
        problems = [explained(item) for item in error.errors()]
        more = f" and {len(problems) - _SHOWN_PROBLEMS} more" * (len(problems) > _SHOWN_PROBLEMS)
        text = "; ".join(problems[:_SHOWN_PROBLEMS])
        raise ValueError(f"{where} does not hold what it must: {text}{more}") from error


def one_line(error: BaseException) -> str:
    """An error of another library in one short line."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def whole_number(text: str) -> int:
    """A JSON number without a fraction.

    Raises:
        ValueError: it has thousands of digits, which take Python long and hold nothing of ours.
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
    """Two readers of a key given twice may take different ones."""
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
    """As much of a text as belongs into one line, without what would break it."""
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= most else f"{text[: most - 1]}…"
