"""Which language model is asked, and how hard it is tried.

Owns what a URL may hold: no secret, for settings are written to disk and shown in errors.
"""

import re

from pydantic import (
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from .....foreign import short
from .....store.place.options import StorageSettings

_OF_ENDPOINTS = ("llm", "key_from", "parallel", "requests_per_minute", "timeout_s", "attempts")


class AskingSettings(StorageSettings):
    """A language model at a URL, or on this machine, or none."""

    model_config = ConfigDict(hide_input_in_errors=True)

    endpoint: str | None = None
    """URL of an OpenAI-compatible server, as http://127.0.0.1:8000/v1; it holds no key."""
    llm: str | None = None
    """Name of the language model at the endpoint."""
    llm_model: str | None = None
    """Folder or hub id of a transformers model that runs here instead."""
    key_from: str | None = None
    """Environment variable that holds the endpoint's key; the key is written nowhere."""
    parallel: PositiveInt = 4
    """Requests that the endpoint has at a time."""
    requests_per_minute: float | None = Field(default=None, ge=1e-3)
    """The endpoint's limit."""
    timeout_s: float = Field(default=120.0, ge=0.01, le=86_400)
    """Seconds that an answer may take in all; one that falls silent halfway, once more as many."""
    attempts: PositiveInt = 8
    """Times that a request is sent that fails or stalls, with growing waits, before all stops."""
    tries: PositiveInt = 3
    """Times that a question is asked whose answers are nonsense, each with another seed."""
    most_tokens: PositiveInt = 512
    """Tokens of an answer at most."""
    price_in: NonNegativeFloat | None = None
    """Dollars for a million tokens that are read, for --dry-run."""
    price_out: NonNegativeFloat | None = None
    """Dollars for a million tokens that are written."""
    llm_seed: NonNegativeInt = 0
    """Seed of a question's first try."""

    @model_validator(mode="after")
    def _no_secrets(self) -> "AskingSettings":
        # A rule of the field itself would show the value that it refuses.
        if self.endpoint is not None:
            _check_url(self.endpoint)
        if self.key_from is not None and not re.fullmatch(r"[A-Za-z_]\w*", self.key_from):
            raise ValueError(
                "key_from must be the name of an environment variable that holds the key, got "
                "something else; set a variable to the key, and pass its name with --key-from"
            )
        return self

    @model_validator(mode="after")
    def _one_model(self) -> "AskingSettings":
        if self.endpoint and self.llm_model:
            raise ValueError("endpoint and llm_model must not both be given: one model is asked")
        if self.endpoint and not self.llm:
            raise ValueError("llm must name the language model at the endpoint, got none; --llm")
        for name in _OF_ENDPOINTS:
            if not self.endpoint and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} has no effect without endpoint; leave it out")
        return self

    @property
    def has_model(self) -> bool:
        """Whether there is a language model to ask."""
        return bool(self.endpoint or self.llm_model)


def _check_url(url: str) -> None:
    """ValueError where it is no URL, or has what keys are written in: `me:key@host`, `?key=`."""
    found = [mark for mark in "@?#" if mark in url]
    if found:
        raise ValueError(
            f"endpoint must be a URL without user, query and fragment, got one with {found[0]}; "
            "leave them out, and name the environment variable that holds the key with --key-from"
        )
    if not re.fullmatch(r"https?://[^/\s]+(/\S*)?", url):
        raise ValueError(
            f"endpoint must be a URL as http://127.0.0.1:8000/v1, got {short(repr(url))}"
        )
