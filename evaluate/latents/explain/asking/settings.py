"""Which language model is asked, and how hard it is tried."""

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from .....store.place.options import StorageSettings

_OF_ENDPOINTS = ("llm", "key_from", "parallel", "requests_per_minute", "timeout_s", "attempts")


class AskingSettings(StorageSettings):
    """A language model at a URL, or on this machine, or none."""

    endpoint: str | None = Field(default=None, pattern=r"^https?://[^/\s]+")
    """URL of an OpenAI-compatible server, as http://127.0.0.1:8000/v1."""
    llm: str | None = None
    """Name of the language model at the endpoint."""
    llm_model: str | None = None
    """Folder or hub id of a transformers model that runs here instead."""
    key_from: str | None = Field(default=None, pattern=r"^[A-Za-z_]\w*$")
    """Environment variable that holds the endpoint's key; the key is written nowhere."""
    parallel: PositiveInt = 4
    """Requests that the endpoint has at a time."""
    requests_per_minute: PositiveFloat | None = None
    """The endpoint's limit."""
    timeout_s: PositiveFloat = 120.0
    """Seconds after which an answer is no longer waited for."""
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
