"""Fuzzing: are the marked tokens those at which the latent fires?"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from ...explain.asking.asker import Question
from ...explain.shown import marked, words
from ...samples.sample_set import TEST, DrawnContexts, Samples
from ..statistics import Judged
from .scorer import Scorer, numbers


class Fuzzing(Scorer):
    """Shows test contexts in which the latent fires, and asks whether the marked tokens are right.

    In half of the contexts the tokens at which it fires are marked. In the other half the same
    pattern of marks is moved to tokens at which it is silent. The pattern keeps the number and
    lengths of its runs, so marks give no hint without the text. Contexts in which the pattern
    cannot be moved are left out of both halves, and counted.
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
        """The answer for every context, 1, 0 or NaN; the truth is whether its marks are right."""
        drawn, right, _ = self._marked(samples, k)
        said = np.full(len(right), np.nan)
        for i, answer in enumerate(answers):
            if answer is not None:
                said[i * self._per_prompt : (i + 1) * self._per_prompt] = answer
        return Judged(right, said, drawn.sequence, left_out=len(samples.of(k, TEST)) - len(drawn))

    def _marked(
        self, samples: Samples, k: int
    ) -> tuple[DrawnContexts, Bool[np.ndarray, " n"], Bool[np.ndarray, "n context"]]:
        """Contexts in random order, which of them are marked right, and the marks."""
        drawn, rng = samples.of(k, TEST), np.random.default_rng([self._seed, samples.latents[k]])
        fires = np.nan_to_num(drawn.f) > 0
        moved = [_moved(*pair) for pair in zip(fires, drawn.known & ~fires, strict=True)]
        kept = rng.permutation([i for i, places in enumerate(moved) if len(places)]).astype(int)
        right = np.zeros(len(kept), dtype=bool)
        right[rng.permutation(len(kept))[: len(kept) // 2]] = True
        marks = fires[kept]
        for i in np.flatnonzero(~right):
            marks[i] = False
            marks[i, rng.choice(moved[kept[i]])] = True
        return DrawnContexts(*(column[kept] for column in drawn)), right, marks

    def _question(self, explanation: str, texts: list[str]) -> Question:
        pieces = "\n\n".join(f"Piece {i + 1}: {text}" for i, text in enumerate(texts))
        messages = self._asked.filled(explanation=explanation, pieces=pieces)
        return Question(messages, numbers(len(texts), 1))


def _moved(
    marks: Bool[np.ndarray, " context"], free: Bool[np.ndarray, " context"]
) -> Int[np.ndarray, "places n_marks"]:
    """Every move of the whole pattern of marks that puts all of them on free tokens."""
    at = np.flatnonzero(marks)
    pattern = at - at[0]
    places = np.arange(len(marks) - pattern[-1])[:, None] + pattern
    return places[free[places].all(axis=1)]
