"""Settings: how every command gets its parameters.

Owns the frozen pydantic base class, the merge of a TOML file with command-line flags, and the error
text for wrong settings. Knows no stage.
"""

import difflib
import json
import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
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
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from .arguments import dtype_name
from .foreign import explained, short

_GIVEN = " (as {} or in the config file)"

_SHOWN_NAMES = 10
"""Errors list at most so many known settings."""

_ELSEWHERE = {
    "learning_rate": "lr",
    "l1": "sparsity",
    "l1_coefficient": "sparsity",
    "batch_size": "batch",
    "n_steps": "steps",
    "d_sae": "width",
    "dict_size": "width",
    "hook_name": "site",
    "hook_point": "site",
}
"""What other libraries call a setting -> its name here."""

_OBJECTS = {
    "model": "a LanguageModel",
    "tokens": "a TokenStore",
    "store": "an ActivationStore",
}
"""Settings that are names -> the loaded object that may be given instead."""

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
                raise ValueError(_explain(error, cls)) from None


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
            raise PydanticCustomError("float_type" if float in kinds else "int_type", "no number")
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        """Raises ValueError: settings are frozen."""
        raise ValueError(
            f"{name} cannot be set: settings are frozen; build others from {type(self).__name__}"
        )


SettingsT = TypeVar("SettingsT", bound=Settings)


def one_or_several(value: Any) -> Any:
    """A setting that is a text or a list of texts as a list; ValueError for anything else."""
    if not isinstance(value, str | list | tuple):
        raise ValueError("must be a str or a list of them")
    return [value] if isinstance(value, str) else value


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
        raise ValueError(_explain(error, kind, hint) + tail) from None


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
        raise ValueError(f"{where}: {_explain(error, kind)}") from None


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


def _explain(error: ValidationError, kind: type[BaseModel], flag: str = "") -> str:
    """pydantic's errors as one line, with the nearest known name for a misspelt setting.

    Args:
        flag: text that tells how to give a missing setting; {} stands for its flag.
    """
    lines = []
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            known = sorted(_fields(_model_at(kind, item["loc"])))
            lines.append(f"unknown setting {name!r}; {_hint(str(item['loc'][-1]), known)}")
        elif item["type"] == "string_type" and name in _OBJECTS:
            what = "a hub id" if name == "model" else "a URL"
            got = short(repr(item["input"]))
            lines.append(f"{name} must be {what}, a path or {_OBJECTS[name]}, got {got}")
        elif item["type"] == "missing":
            lines.append(f"{name} must be given{flag.format(_flag(name))}")
        elif not item["loc"]:
            lines.append(item["msg"].removeprefix("Value error, "))  # a rule between settings
        elif item["type"] == "too_short":
            lines.append(f"{name} must have at least one entry, got {short(repr(item['input']))}")
        else:
            lines.append(_rule(name, item))
    return "; ".join(lines)


_NUMBER, _WHOLE, _TABLE, _LIST = "a number", "a whole number", "a table", "a list"

_RULES = {
    **dict.fromkeys(("int_type", "int_parsing", "int_parsing_size", "int_from_float"), _WHOLE),
    **dict.fromkeys(("float_type", "float_parsing"), _NUMBER),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type"), _TABLE),
    **dict.fromkeys(("list_type", "tuple_type", "set_type"), _LIST),
    "string_type": "text",
    "path_type": "a path",
    "finite_number": "a finite number",
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "string_pattern_mismatch": "text that matches {pattern}",
    "string_too_long": "text of at most {max_length} characters",
}
"""pydantic's kind of error -> what the setting must be."""


def _rule(name: str, item: Any) -> str:
    """One of pydantic's errors as "<name> must be <rule>, got <value>"."""
    got = short(repr(item["input"]))
    bounds = {k: f"{v:.9g}" if isinstance(v, float) else v for k, v in item.get("ctx", {}).items()}
    if (rule := _RULES.get(item["type"])) is not None:
        return f"{name} must be {rule.format(**bounds)}, got {got}"
    message = item["msg"].removeprefix("Value error, ")
    return f"{name} {message}, got {got}" if message.startswith("must ") else explained(item)


def _hint(name: str, known: list[str]) -> str:
    """Which setting an unknown name may mean."""
    meant = _ELSEWHERE.get(name)
    close = [meant] if meant in known else difflib.get_close_matches(name, known, n=1)
    close = close or [one for one in known if f"_{name}_" in f"_{one}_"][:_SHOWN_NAMES]
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    more = f" and {len(known) - _SHOWN_NAMES} more" if len(known) > _SHOWN_NAMES else ""
    return f"known settings: {', '.join(known[:_SHOWN_NAMES])}{more}"


def _model_at(kind: type[BaseModel], loc: Sequence[int | str]) -> type[BaseModel]:
    """The model that has the setting at this path."""
    for part in loc[:-1]:
        field = _fields(kind).get(str(part))
        inner = None if field is None else field.annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return kind
        kind = inner
    return kind


def _fields(kind: type[BaseModel]) -> dict[str, FieldInfo]:
    """A model's fields by their names in a file."""
    return {field.alias or name: field for name, field in kind.model_fields.items()}


def _flag(name: str) -> str:
    """A setting's flag on the command line."""
    return "--" + name.replace("_", "-")
