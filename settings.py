"""Settings: how every command gets its parameters.

Owns the frozen pydantic base class and the merge of a TOML file with command-line flags. Errors are
worded by `settings_errors`. Knows no stage.
"""

import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from itertools import zip_longest
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from .arguments import dtype_name, several
from .foreign import short
from .settings_errors import explain

_GIVEN = " (as {} or in the config file)"

_UNIONS = (Union, UnionType)

_SHOWN_CHARACTERS = 80
"""Errors show at most so many characters of a value."""


class _OneLine(type(BaseModel)):
    """Turns pydantic's errors into one line, also for settings that are made in Python."""

    if not TYPE_CHECKING:  # type checkers take a model's arguments from its fields

        def __call__(cls, *args: Any, **values: Any) -> Any:
            try:
                return super().__call__(*args, **values)
            except ValidationError as error:
                raise ValueError(explain(error, cls)) from None


class Settings(BaseModel, metaclass=_OneLine):
    """Base of every stage's settings: frozen, no unknown keys, fields documented by docstrings.

    Wherever a setting is the name of a model, store or SAE, the loaded object may be given instead;
    its `as_setting()` returns the name. Wherever it is a path or URL, a `Path` may be; wherever it
    is a dtype's name, torch's dtype.

    Raises:
        ValueError: a key is unknown, missing or out of range; one line names every such key.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _names(cls, values: Any) -> Any:
        """Replaces loaded objects and dtypes by their names, and paths by their text."""
        if not isinstance(values, Mapping):
            return values
        return {name: _named(value) for name, value in values.items()}

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_boolean(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuses true and false for a number, which Python takes for 1 and 0."""
        kinds = _kinds(cls.model_fields[str(info.field_name)].annotation)
        if isinstance(value, bool) and bool not in kinds and kinds & {int, float}:
            if float in kinds:
                raise PydanticCustomError("float_type", "Input should be a valid number")
            raise PydanticCustomError("int_type", "Input should be a valid integer")
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        """Raises ValueError: settings are frozen."""
        raise ValueError(
            f"{name} cannot be set: settings are frozen; build others from {type(self).__name__}"
        )


SettingsT = TypeVar("SettingsT", bound=Settings)


def one_or_several(value: Any) -> Any:
    """A setting that is a text or several texts as a list; ValueError for anything else."""
    found = list(several(value))
    if not all(isinstance(one, str) for one in found):
        raise ValueError("must be a str or a list of them")
    return found


def _kinds(annotation: Any) -> set[Any]:
    """The types of which a field takes one value."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kinds(inner[0])
    return set[Any]().union(*map(_kinds, inner)) if origin in _UNIONS else {annotation}


def _named(value: Any) -> Any:
    """The name of a loaded object, path or dtype, or of each in a list; any other value as it
    is."""
    if isinstance(value, list | tuple):
        return type(value)(map(_named, value)) if type(value) in (list, tuple) else value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.as_setting() if hasattr(value, "as_setting") else dtype_name(value)


def resolve(
    kind: type[SettingsT], config: Path | None = None, hint: str = _GIVEN, /, **flags: Any
) -> SettingsT:
    """Builds `kind` from a TOML file and flags; flags win, and a flag of None was not given.

    Args:
        kind: the settings class.
        config: the TOML file; None for no file.
        hint: text that tells how to give a missing setting; {} stands for its flag.
        flags: setting -> value.

    Raises:
        FileNotFoundError: the TOML file does not exist.
        ValueError: a key is unknown, missing or out of range; the text names every such key.
    """
    values = read_toml(config) if config is not None else {}
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return kind.model_validate(values | given)
    except ValidationError as error:
        tail = f" (config file {config})" if config else ""
        raise ValueError(explain(error, kind, hint) + tail) from None


def from_table(kind: type[SettingsT], values: Mapping[str, Any], where: str) -> SettingsT:
    """Builds `kind` from a table of a larger file.

    Args:
        where: names file and table in errors.

    Raises:
        ValueError: a key is unknown, missing or out of range; the text names every such key.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ValueError(f"{where}: {explain(error, kind)}") from None


def read_toml(path: Path) -> dict[str, Any]:
    """Reads a TOML table.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is not valid TOML.
    """
    if not path.is_file():
        raise FileNotFoundError(f"config file {path} does not exist; pass the path of a TOML file")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"config file {path} is not valid TOML: {error}") from error


def parse_pairs(pairs: Iterable[str], flag: str) -> dict[str, Any]:
    """KEY=VALUE pairs of a flag as a dictionary; a value that is valid JSON (a number, true, {…})
    is parsed, any other is text.

    Raises:
        ValueError: a pair has no "=", or a key is given twice.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise ValueError(f"{flag} must be key=value, got {pair!r}")
        if key in found:
            raise ValueError(f"{flag} {key} must be given once, got it twice")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


def dump(settings: Settings) -> str:
    """The resolved settings as indented JSON text, which commands write beside their outputs."""
    return json.dumps(settings.model_dump(mode="json"), indent=2) + "\n"


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """One line per setting that differs ("name: old → new"); [] for equal settings.

    Nested tables are compared entry by entry (`provenance.dtype`); long values are cut.
    """
    lines: list[str] = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            lines += [f"{name}.{line}" for line in differences(before, after)]
        elif before != after:
            lines.append(f"{name}: {_difference(before, after)}")
    return lines


def _difference(before: Any, after: Any) -> str:
    """Two values as "old → new"; of long lists, lengths and the first entry that differs."""
    if not (isinstance(before, list) and isinstance(after, list)) or (
        max(len(repr(before)), len(repr(after))) <= _SHOWN_CHARACTERS
    ):
        return f"{_shortened(before)} → {_shortened(after)}"
    pairs = enumerate(zip_longest(before, after))
    at, (first, second) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
    return (
        f"{len(before)} entries → {len(after)} entries, entry {at}: "
        f"{_shortened(first)} → {_shortened(second)}"
    )


def _shortened(value: Any) -> str:
    return short(repr(value), _SHOWN_CHARACTERS)
