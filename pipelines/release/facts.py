"""Facts of a release that are not in its SAEs' records: title, text, license.

Owns their fields, and the check that none of them contains a path of the machine.
"""

import json
import re
from typing import Any

from pydantic import Field, JsonValue, NonNegativeInt, field_validator

from ...settings import Settings
from ...train.sae.config import public_name

_LOCAL = re.compile(r"(^|\s)(/|~|file:|[A-Za-z]:[\\/])\S")


class ReleaseFacts(Settings):
    """Facts of a release; they must not depend on the folder in which the suite ran."""

    name: str = Field(min_length=1, max_length=200)
    """Title of the model card."""
    model: str = Field(min_length=1)
    """Language model that the SAEs are of: a hub id, or a folder, of which only the last part is
    kept."""
    text: str = "not described"
    """Description of the text in words or hub ids; no paths."""
    license: str = Field(default="cc-by-4.0", min_length=1)
    """License identifier of the hub; Gemma Scope's own weights are CC BY 4.0."""
    repo: str | None = Field(default=None, pattern=r"^[\w.-]+/[\w.-]+$")
    """Hub id that the card's examples name."""
    tokens: NonNegativeInt | None = None
    """Tokens of text that were tokenized."""
    rows: NonNegativeInt | None = None
    """Rows of activations in the store."""
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """More lines of the card's recipe: name -> number, text or list."""
    limits: tuple[str, ...] = ()
    """Sentences for the card's section on limits."""

    @field_validator("settings", mode="before")
    @classmethod
    def _as_json(cls, value: Any) -> Any:
        """Makes lists of tuples, as JSON does; what is no JSON is left for the error."""
        try:
            return json.loads(json.dumps(value))
        except (TypeError, ValueError):
            return value

    @field_validator("model")
    @classmethod
    def _is_public(cls, value: str) -> str:
        return public_name(value)

    @field_validator("name", "text", "license", "settings", "limits")
    @classmethod
    def _names_no_path(cls, value: Any) -> Any:
        if _path_in(value) is not None:
            raise ValueError("must describe in words, and name no path of this machine")
        return value


def _path_in(value: Any) -> str | None:
    """The first text in a JSON value that looks like a local path."""
    if isinstance(value, str):
        return value if _LOCAL.search(value) else None
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple):
        return next((found for item in value if (found := _path_in(item)) is not None), None)
    return None
