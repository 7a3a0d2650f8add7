"""Encoding: texts to token ids, in bounded memory.

Owns the use of the tokenizer's backend. Where BOS and EOS go is `packing`'s business.
"""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

_PIECE_CHARACTERS = 2**18
# Tokenizers start anew where white space begins, not where it ends: runs of it belong together.
_LINE_BORDER, _WORD_BORDER = re.compile(r"(?<=\S)(?=\n)"), re.compile(r"(?<=\S)(?= )")


def token_ids(tokenizer: Any, texts: list[str]) -> list[np.ndarray]:
    """Each text's token ids, uint32 [n]: no special tokens, not even where a text spells one out.

    Very long texts are cut at line or word borders first, because the tokenizer's memory grows with
    the longest piece.
    """
    pieces = [list(_pieces(text)) for text in texts]
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    spelt_out, backend.encode_special_tokens = backend.encode_special_tokens, True
    try:
        # The backend itself: transformers' wrapper around it takes half as long again.
        flat = [piece for text in pieces for piece in text]
        encoded = iter(backend.encode_batch_fast(flat, add_special_tokens=False))
    finally:
        backend.encode_special_tokens = spelt_out
    return [
        np.concatenate([np.asarray(next(encoded).ids, dtype=np.uint32) for _ in text])
        for text in pieces
    ]


def _pieces(text: str) -> Iterator[str]:
    """The text in pieces of bounded length, cut where tokens do not reach across."""
    start = 0
    while len(text) - start > _PIECE_CHARACTERS:
        window = text[start : start + _PIECE_CHARACTERS]
        cut = _last_end(_LINE_BORDER, window) or _last_end(_WORD_BORDER, window) or len(window)
        yield window[:cut]
        start += cut
    yield text[start:]


def _last_end(border: re.Pattern[str], window: str) -> int:
    """Where the last border in the second half of the window ends; 0 if there is none."""
    half = len(window) // 2
    return max((match.end() for match in border.finditer(window, half)), default=0)
