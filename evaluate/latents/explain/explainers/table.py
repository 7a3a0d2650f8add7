"""The table of explainers: a name, and what makes an explainer of the settings."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ...samples.sample_set import Samples
from ..asking.asker import Asker, Question
from . import llm, unigrams

Sentences = list[str | None]


class Explainer(Protocol):
    """A way to a sentence about a latent."""

    def questions(self, samples: Samples, tokenizer: object) -> list[Question | None]:
        """What a language model would be asked, by latent; empty for one that asks none."""
        ...

    def texts(self, samples: Samples, tokenizer: object, asker: Asker | None) -> Sentences:
        """A sentence for each latent; None where there is none."""
        ...


class UnigramExplainer:
    """Names the tokens at which a latent fires."""

    def __init__(self, _prompts: Path | None):
        pass

    def questions(self, samples: Samples, tokenizer: object) -> list[Question | None]:
        """None are asked."""
        return []

    def texts(self, samples: Samples, tokenizer: object, asker: Asker | None) -> Sentences:
        """From the tables."""
        return [unigrams.text(samples, k, tokenizer) for k in range(len(samples.latents))]


class Llm:
    """Asks a language model for a sentence."""

    def __init__(self, prompts: Path | None):
        self._prompt = llm.prompt(prompts)

    def questions(self, samples: Samples, tokenizer: object) -> list[Question | None]:
        """One a latent."""
        latents = range(len(samples.latents))
        return [llm.question(samples, k, tokenizer, self._prompt) for k in latents]

    def texts(self, samples: Samples, tokenizer: object, asker: Asker | None) -> Sentences:
        """From its answers."""
        assert asker is not None
        questions = self.questions(samples, tokenizer)
        return spread(questions, asker.ask_all([q for q in questions if q], "explaining"))


def spread(questions: Sequence[Question | None], answers: Sequence[str | None]) -> Sentences:
    """The answers at the places of their questions."""
    left = iter(answers)
    return [None if question is None else next(left) for question in questions]


EXPLAINERS = {"llm": Llm, "tokens": UnigramExplainer}
