"""How a context is shown to a language model: as text with marked tokens, and their strength.

Owns the marks and the scale from 0 to 10.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from ...measure.top_activations import token_texts
from ..samples.sample_set import DrawnContexts

OPEN, CLOSE = "<<", ">>"


def words(tokenizer: object, tokens: Int[np.ndarray, " n"]) -> list[str]:
    """Each token's text on one line."""
    return [escaped(text) for text in token_texts(tokenizer, tokens.tolist())]  # pyright: ignore


def escaped(text: str) -> str:
    r"""A text on one line: \n for its line ends."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def quoted(text: str) -> str:
    """A token's text between quotes, which show its spaces."""
    return f"'{text}'"


def levels(f: Float[np.ndarray, "..."], largest: float) -> Int[np.ndarray, "..."]:
    """Activations on a scale of 0 to 10: ⌈10 f / largest⌉, at least 1 where the latent fires, and 0
    where there is no row."""
    known = np.nan_to_num(f, nan=0.0)
    return np.clip(np.ceil(10 * known / largest if largest else known), 0, 10).astype(int)


def marked(texts: list[str], marks: Bool[np.ndarray, " n"]) -> str:
    r"""The text with its marked tokens between << and >>; neighbours share a pair.

    < and > of the text itself are written \< and \>, so that no text looks like a mark.
    """
    parts, inside = [], False
    for text, mark in zip(texts, marks.tolist(), strict=True):
        if mark != inside:
            parts.append(OPEN if mark else CLOSE)
        parts.append(text.replace("<", r"\<").replace(">", r"\>"))
        inside = mark
    return "".join([*parts, CLOSE * inside])


def example(tokenizer: object, drawn: DrawnContexts, i: int, largest: float) -> str:
    """A context in which a latent fires, with its marks and the strength of every marked token."""
    texts, strength = words(tokenizer, drawn.tokens[i]), levels(drawn.f[i], largest)
    at = np.flatnonzero(strength)
    strengths = ", ".join(f"{quoted(texts[j])} {strength[j]}" for j in at)
    return f"{marked(texts, strength > 0)}\nStrengths: {strengths}"
