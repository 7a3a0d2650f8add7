"""Settings of `scopeworks latents score`."""

from typing import Any, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from ....arguments import several
from ..explain.settings import TOKENS, SourcesSettings

ASKING = ("detection", "fuzzing", "simulation")
"""Scorers that ask a language model; their table is `scorers.table`."""


class ScoreSettings(SourcesSettings):
    """Scores of the explanations in an index."""

    scorer: list[Literal["detection", "fuzzing", "simulation", "tokens"]] | None = None
    """How explanations are scored; tokens asks no language model. By default the other three if
    there is a language model, otherwise tokens."""
    explainer: str | None = None
    """Whose explanations to score: by default llm's if there are some, otherwise tokens'."""
    examples_per_prompt: PositiveInt = 1
    """Test contexts in one prompt of detection and fuzzing. More cost less, but contexts in one
    prompt give hints about each other."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the shuffles and of the intervals."""

    @field_validator("scorer", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return value if value is None else several(value)

    @model_validator(mode="after")
    def _fits(self) -> "ScoreSettings":
        asks = [name for name in self.scorers if name != TOKENS]
        if asks and not self.has_model:
            raise ValueError(
                f"scorer {asks[0]} must have a language model to ask: pass --endpoint URL --llm "
                "NAME, or --llm-model PATH"
            )
        for name, default in (("endpoint", None), ("llm_model", None), ("prompts", None)):
            if not asks and getattr(self, name) != default:
                raise ValueError(f"{name} has no effect with scorer tokens; leave it out")
        if self.examples_per_prompt > 1 and not {"detection", "fuzzing"} & set(asks):
            raise ValueError(
                "examples_per_prompt has an effect on detection and fuzzing only; leave it out"
            )
        return self

    @property
    def scorers(self) -> list[str]:
        """The scorers to run, each once."""
        return list(dict.fromkeys(self.scorer or (ASKING if self.has_model else [TOKENS])))
