"""The `llm` explainer: asks a language model for one sentence about contexts with marked tokens."""

import re
from pathlib import Path

from ...samples.sample_set import EXPLAIN, Samples
from ..asking.asker import Question
from ..asking.request import NonsenseError
from ..shown import example
from ..templates import Template, template

PROMPT, GAPS = "explain.txt", ("examples",)
PROMPTS = Path(__file__).parents[1] / "prompts"

_MOST_CHARACTERS = 600
_THOUGHTS = re.compile(r"^.*</think>", re.S)


def prompt(own: Path | None) -> Template:
    """The prompt, from the user's folder `own` if it is there."""
    return template(PROMPT, PROMPTS, own, GAPS)


def question(samples: Samples, k: int, tokenizer: object, asked: Template) -> Question | None:
    """What is asked about latent k; None where it never fires in the half that explains."""
    drawn = samples.of(k, EXPLAIN)
    if not len(drawn):
        return None
    largest = float(samples.largest[k])
    shown = [f"Piece {i + 1}: {example(tokenizer, drawn, i, largest)}" for i in range(len(drawn))]
    return Question(asked.filled(examples="\n\n".join(shown)), sentence)


def sentence(answer: str) -> str:
    """An answer as one line.

    Raises:
        NonsenseError: it is empty, has no word, or is far too long for a sentence.
    """
    text = " ".join(_THOUGHTS.sub("", answer).split()).strip("\"' ")
    if not re.search(r"[^\W\d_]{2,}", text) or not text.replace("\ufffd", "").isprintable():
        raise NonsenseError("an explanation must have words")
    if len(text) > _MOST_CHARACTERS:
        raise NonsenseError(f"an explanation must have at most {_MOST_CHARACTERS} characters")
    return text
