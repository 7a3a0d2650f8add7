"""What `scopeworks latents explain` is asked to do."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from ..files.manifest import Places
from ..samples.settings import SampleSettings
from .asking.settings import AskingSettings

LLM, TOKENS = "llm", "tokens"

_NOT_KEPT = {
    *("index", "parallel", "requests_per_minute", "timeout_s", "attempts"),
    *("price_in", "price_out"),
}
"""Settings that change no answer."""


class SourcesSettings(AskingSettings):
    """An index, and what it was made from where that is needed again."""

    index: Path
    """Folder that `scopeworks latents index` made."""
    sae: str | None = None
    """The SAE, where it is no longer where the index found it."""
    store: str | None = None
    """URL of the activation store, where the index's is gone."""
    tokens: str | None = None
    """URL of the token store that the rows come from, where the index's is gone."""
    model: str | None = None
    """Folder or hub id of the language model that was harvested, for its tokenizer, where the
    index's is gone."""
    prompts: Path | None = None
    """Folder of prompts that replace ours, file by file."""
    dry_run: bool = Field(default=False, exclude=True)
    """Say requests, tokens and price, and ask nothing."""

    def with_places(self, places: Places | None) -> Self:
        """The same, with what the index's maker knew where nothing is given."""
        known = {} if places is None else places.model_dump()
        missing = {name: value for name, value in known.items() if getattr(self, name) is None}
        return self.model_copy(update=missing)

    def kept(self) -> dict[str, Any]:
        """What is written beside results: all that decides them, and the places."""
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
        """Texts are split at commas: a command line has 3,17."""
        if not (isinstance(value, list) and all(isinstance(text, str) for text in value)):
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
