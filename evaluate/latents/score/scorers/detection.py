"""Detection: does the latent fire anywhere in this context?"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...explain.asking.asker import Question
from ...explain.shown import words
from ...samples.sample_set import Samples
from ..statistics import Judged
from .scorer import Scorer, numbers


class Detection(Scorer):
    """Shows test contexts as plain text and asks, for each, whether the latent fires in it.

    One context per prompt unless more are asked for, because contexts in one prompt give hints
    about each other.
    """

    prompt = "detection.txt"
    gaps = ("explanation", "pieces")

    def questions(
        self, samples: Samples, k: int, explanation: str, tokenizer: object
    ) -> list[Question]:
        """A question for every `per_prompt` contexts, which are in random order."""
        drawn, _ = samples.tests(k)
        texts = ["".join(words(tokenizer, drawn.tokens[i])) for i in self._order(samples, k)]
        return [
            self._question(explanation, texts[first : first + self._per_prompt])
            for first in range(0, len(texts), self._per_prompt)
        ]

    def evidence(self, samples: Samples, k: int, answers: Sequence[Any | None]) -> Judged:
        """The answer for every context: 1 for yes, 0 for no, NaN where it is missing."""
        drawn, fires = samples.tests(k)
        said = np.full(len(drawn), np.nan)
        order = self._order(samples, k)
        for i, answer in enumerate(answers):
            if answer is not None:
                said[order[i * self._per_prompt : (i + 1) * self._per_prompt]] = answer
        return Judged(fires, said, drawn.sequence)

    def _order(self, samples: Samples, k: int) -> np.ndarray:
        """A random order, in which firing and silent contexts are mixed."""
        rng = np.random.default_rng([self._seed, int(samples.latents[k])])
        return rng.permutation(len(samples.tests(k)[0]))

    def _question(self, explanation: str, texts: list[str]) -> Question:
        pieces = "\n\n".join(f"Piece {i + 1}: {text}" for i, text in enumerate(texts))
        messages = self._asked.filled(explanation=explanation, pieces=pieces)
        return Question(messages, numbers(len(texts), 1))
