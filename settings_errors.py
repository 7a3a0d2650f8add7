"""What is wrong with settings, in one line: pydantic's errors as "<name> must be <rule>, got
<value>", and the setting that an unknown name may mean."""

import difflib
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from .foreign import explained, short

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


def explain(error: ValidationError, kind: type[BaseModel], flag: str = "") -> str:
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
