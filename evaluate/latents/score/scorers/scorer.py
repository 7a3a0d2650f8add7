"""The base class of scorers, and how answers are read."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .....foreign import parse_json
from ...explain.asking.asker import Question
from ...explain.asking.request import NonsenseError
from ...explain.templates import Template, template
from ...samples.sample_set import Samples
from ..statistics import Evidence

PROMPTS = Path(__file__).parents[1] / "prompts"

_THOUGHTS = re.compile(r"^.*</think>", re.S)
_LIST = re.compile(r"\[[^\[\]]*\]")


class Scorer(ABC):
    """Turns explanations into questions, and answers into evidence, latent by latent."""

    prompt: str
    """Name of its prompt's file."""
    gaps: tuple[str, ...]
    """Names of the gaps in the prompt, which `questions` fills."""

    def __init__(self, own_prompts: Path | None, per_prompt: int, seed: int):
        self._asked: Template = template(self.prompt, PROMPTS, own_prompts, self.gaps)
        self._per_prompt, self._seed = per_prompt, seed

    @abstractmethod
    def questions(
        self, samples: Samples, k: int, explanation: str, tokenizer: object
    ) -> list[Question]:
        """The questions about latent k's test contexts."""

    @abstractmethod
    def evidence(self, samples: Samples, k: int, answers: Sequence[Any | None]) -> Evidence:
        """The evidence in the answers to `questions`; None stands for a missing answer."""


def numbers(n: int, largest: int) -> Callable[[str], list[int]]:
    """Reads an answer that must be a JSON list of n whole numbers of 0 to `largest`.

    The last list in the answer counts, because a language model may think aloud first. A single
    number needs no list.
    """

    def read(answer: str) -> list[int]:
        text = _THOUGHTS.sub("", answer)
        lists = _LIST.findall(text)
        if not lists and n == 1:
            lists = [f"[{text.strip()}]"]
        if not lists:
            raise NonsenseError("an answer must be a JSON list")
        try:
            found = parse_json(lists[-1], "the answer")
        except (ValueError, json.JSONDecodeError) as error:
            raise NonsenseError(str(error)) from error
        if len(found) != n:
            raise NonsenseError(f"an answer must be {n} numbers, got {len(found)}")
        if not all(type(value) is int and 0 <= value <= largest for value in found):
            raise NonsenseError(f"an answer must be whole numbers of 0 to {largest}")
        return found

    return read
