"""Simulation: how strongly does the latent fire at each token?"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...explain.asking.asker import Question
from ...explain.shown import quoted, words
from ...samples.sample_set import Samples
from ..statistics import Simulated
from .scorer import Scorer, numbers


class Simulation(Scorer):
    """Shows the tokens of one test context per prompt, and asks to rate each from 0 to 10."""

    prompt = "simulation.txt"
    gaps = ("explanation", "tokens")

    def questions(
        self, samples: Samples, k: int, explanation: str, tokenizer: object
    ) -> list[Question]:
        """A question for each context."""
        drawn, _ = samples.tests(k)
        return [self._question(explanation, words(tokenizer, row)) for row in drawn.tokens]

    def evidence(self, samples: Samples, k: int, answers: Sequence[Any | None]) -> Simulated:
        """The predicted activation of every token, 0 to 10; NaN where an answer is missing."""
        drawn, fires = samples.tests(k)
        predicted = np.full(drawn.f.shape, np.nan)
        for i, answer in enumerate(answers):
            if answer is not None:
                predicted[i] = answer
        return Simulated(fires, drawn.f.astype(np.float64), predicted, drawn.sequence)

    def _question(self, explanation: str, texts: list[str]) -> Question:
        listed = "\n".join(f"{i + 1} {quoted(text)}" for i, text in enumerate(texts))
        n = str(len(texts))
        messages = self._asked.filled(explanation=explanation, tokens=listed, n=n)
        return Question(messages, numbers(len(texts), 10))
