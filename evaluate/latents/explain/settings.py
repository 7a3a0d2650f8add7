"""Settings of `scopeworks latents explain`, and those that `latents score` shares with it."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from ....arguments import several
from ..files.manifest import Places
from ..samples.settings import SampleSettings
from .asking.settings import AskingSettings

LLM, TOKENS = "llm", "tokens"

_NOT_KEPT = {
    *("index", "parallel", "requests_per_minute", "timeout_s", "attempts"),
    *("price_in", "price_out"),
}
"""Settings that are not written beside results, because they change no answer."""


class SourcesSettings(AskingSettings):
    """An index, and the places of its inputs if they have moved."""

    index: Path
    """Folder that `scopeworks latents index` made."""
    sae: str | None = None
    """The SAE, if it is no longer where the index found it."""
    store: str | None = None
    """URL of the activation store, if it is no longer where the index found it."""
    tokens: str | None = None
    """URL of the token store of the rows, if it is no longer where the index found it."""
    model: str | None = None
    """Folder or hub id of the language model that was harvested, for its tokenizer, if it is no
    longer where the index found it."""
    prompts: Path | None = None
    """Folder of prompts that replace ours, file by file."""
    dry_run: bool = Field(default=False, exclude=True)
    """Print requests, tokens and price, and ask nothing."""

    def with_places(self, places: Places | None) -> Self:
        """The same settings; places that are not given are filled in from the index."""
        known = {} if places is None else places.model_dump()
        missing = {name: value for name, value in known.items() if getattr(self, name) is None}
        return self.model_copy(update=missing)

    def kept(self) -> dict[str, Any]:
        """The settings that are written beside results: those that decide them, and the places."""
        return self.model_dump(mode="json", exclude=_NOT_KEPT)


class ExplainSettings(SourcesSettings, SampleSettings):
    """Explanations of some latents of an index."""

    explainer: Literal["llm", "tokens"] | None = None
    """Who explains; tokens asks no language model. By default llm where there is one, else
    tokens."""
    latents: list[int] | None = None
    """Latents to explain, as 3,17; by default `n` of them."""
    n: PositiveInt | None = None
    """Latents, spread evenly over firing frequency; 100 by default."""

    @field_validator("latents", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        """Splits texts at commas, because a command line has 3,17."""
        value = None if value is None else several(value)
        if not value or not all(isinstance(text, str) for text in value):
            return value
        parts = [part.strip() for text in value for part in text.split(",")]
        if all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
            return [int(part) for part in parts]
        raise ValueError("must be numbers with commas between them")

    @model_validator(mode="after")
    def _fits(self) -> "ExplainSettings":
        if self.latents is not None and self.n is not None:
            raise ValueError("n has no effect with latents; leave one of them out")
        if self.kind == TOKENS:
            for name in ("endpoint", "llm_model", "prompts"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} has no effect with explainer tokens; leave it out")
        elif not self.has_model:
            raise ValueError(
                "explainer llm must have a language model to ask: pass --endpoint URL --llm NAME, "
                "or --llm-model PATH"
            )
        return self

    @property
    def kind(self) -> str:
        """The explainer."""
        return self.explainer or (LLM if self.has_model else TOKENS)

    @property
    def sampling(self) -> SampleSettings:
        """How contexts are drawn."""
        return SampleSettings(**{name: getattr(self, name) for name in SampleSettings.model_fields})
