"""What `scopeworks latents score` is asked to do."""

from pydantic import Field, PositiveInt, model_validator

from ..explain.settings import SourcesSettings
from .scorers.table import SCORERS, TOKENS


class ScoreSettings(SourcesSettings):
    """Scores of the explanations in an index."""

    scorer: list[str] | None = None
    """detection, fuzzing, simulation, tokens; by default the first three where there is a language
    model to ask, else tokens."""
    explainer: str | None = None
    """Whose explanations; by default llm's where there are some, else those of tokens."""
    examples_per_prompt: PositiveInt = 1
    """Test contexts in one prompt of detection and fuzzing. More cost less, and tell of one
    another."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Of the shuffles and the intervals."""

    @model_validator(mode="after")
    def _fits(self) -> "ScoreSettings":
        known = [*SCORERS, TOKENS]
        wrong = [name for name in self.scorer or () if name not in known]
        if wrong:
            raise ValueError(f"scorer must be one of {', '.join(known)}, got {wrong[0]!r}")
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
        """Which are asked for, each once."""
        return list(dict.fromkeys(self.scorer or (SCORERS if self.has_model else [TOKENS])))
