"""Fuzzing: are the marked tokens those at which the latent fires?"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from ...explain.asking.asker import Question
from ...explain.shown import marked, words
from ...samples.sample_set import TEST, Drawn, Samples
from ..statistics import Judged
from .scorer import Scorer, numbers


class Fuzzing(Scorer):
    """Shows test contexts in which the latent fires, each once: in half of them the tokens at which
    it fires are marked, in the other half equally many others.

    Contexts in which it fires at more tokens than it does not are left out.
    """

    prompt = "fuzzing.txt"
    gaps = ("explanation", "pieces")

    def questions(
        self, samples: Samples, k: int, explanation: str, tokenizer: object
    ) -> list[Question]:
        """A question for every `per_prompt` contexts, which are in random order."""
        drawn, _, marks = self._marked(samples, k)
        texts = [
            marked(words(tokenizer, tokens), mark)
            for tokens, mark in zip(drawn.tokens, marks, strict=True)
        ]
        return [
            self._question(explanation, texts[first : first + self._per_prompt])
            for first in range(0, len(texts), self._per_prompt)
        ]

    def evidence(self, samples: Samples, k: int, answers: Sequence[Any | None]) -> Judged:
        """Yes or no of every context; true where the marks are right."""
        _, right, _ = self._marked(samples, k)
        said = np.full(len(right), np.nan)
        for i, answer in enumerate(answers):
            if answer is not None:
                said[i * self._per_prompt : (i + 1) * self._per_prompt] = answer
        return Judged(right, said)

    def _marked(
        self, samples: Samples, k: int
    ) -> tuple[Drawn, Bool[np.ndarray, " n"], Bool[np.ndarray, "n context"]]:
        """Contexts in random order, which of them are marked right, and the marks."""
        drawn, rng = samples.of(k, TEST), np.random.default_rng([self._seed, samples.latents[k]])
        fires = np.nan_to_num(drawn.f) > 0
        kept = np.flatnonzero(2 * fires.sum(1) <= drawn.known.sum(1))
        kept = rng.permutation(kept)
        right = np.zeros(len(kept), dtype=bool)
        right[rng.permutation(len(kept))[: len(kept) // 2]] = True
        marks = fires[kept]
        for i in np.flatnonzero(~right):
            others = np.flatnonzero(drawn.known[kept[i]] & ~fires[kept[i]])
            chosen: Int[np.ndarray, " m"] = rng.permutation(others)[: int(fires[kept[i]].sum())]
            marks[i] = False
            marks[i, chosen] = True
        return Drawn(*(column[kept] for column in drawn)), right, marks

    def _question(self, explanation: str, texts: list[str]) -> Question:
        pieces = "\n\n".join(f"Piece {i + 1}: {text}" for i, text in enumerate(texts))
        messages = self._asked.filled(explanation=explanation, pieces=pieces)
        return Question(messages, numbers(len(texts), 1))
