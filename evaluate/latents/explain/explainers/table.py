"""The table of explainers: name -> class."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ...samples.sample_set import Samples
from ..asking.asker import Asker, Question
from . import llm, unigrams

Sentences = list[str | None]


class Explainer(Protocol):
    """Writes a sentence about each latent."""

    def questions(self, samples: Samples, tokenizer: object) -> list[Question | None]:
        """A question for a language model about each latent; empty if the explainer asks none."""
        ...

    def texts(self, samples: Samples, tokenizer: object, asker: Asker | None) -> Sentences:
        """A sentence for each latent; None where there is none."""
        ...


class UnigramExplainer:
    """Names the tokens at which a latent fires."""

    def __init__(self, _prompts: Path | None):
        pass

    def questions(self, samples: Samples, tokenizer: object) -> list[Question | None]:
        """An empty list: no language model is asked."""
        return []

    def texts(self, samples: Samples, tokenizer: object, asker: Asker | None) -> Sentences:
        """Sentences from the token-unigram tables."""
        return [unigrams.text(samples, k, tokenizer) for k in range(len(samples.latents))]


class Llm:
    """Asks a language model for a sentence."""

    def __init__(self, prompts: Path | None):
        self._prompt = llm.prompt(prompts)

    def questions(self, samples: Samples, tokenizer: object) -> list[Question | None]:
        """A question about each latent; None where it never fires in the half that explains."""
        latents = range(len(samples.latents))
        return [llm.question(samples, k, tokenizer, self._prompt) for k in latents]

    def texts(self, samples: Samples, tokenizer: object, asker: Asker | None) -> Sentences:
        """The language model's sentences."""
        assert asker is not None
        questions = self.questions(samples, tokenizer)
        return spread(questions, asker.ask_all([q for q in questions if q], "explaining"))


def spread(questions: Sequence[Question | None], answers: Sequence[str | None]) -> Sentences:
    """Each answer at its question's index; None where there is no question."""
    left = iter(answers)
    return [None if question is None else next(left) for question in questions]


EXPLAINERS = {"llm": Llm, "tokens": UnigramExplainer}
