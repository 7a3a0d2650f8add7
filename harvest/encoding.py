"""Encoding: texts to token ids, in bounded memory.

Owns the use of the tokenizer's backend. Where BOS and EOS go is `packing`'s business.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

_PIECE_CHARACTERS = 2**18
_GROUP = 2**21
_PROBE = "the text"
# Tokenizers start anew where white space begins, not where it ends: runs of it belong together.
_LINE_BORDER, _WORD_BORDER = re.compile(r"(?<=\S)(?=\n)"), re.compile(r"(?<=\S)(?= )")


def token_ids(tokenizer: Any, texts: list[str]) -> list[np.ndarray]:
    """Each text's token ids, uint32 [n]: no special tokens, not even where a text spells one out.

    Very long texts are cut at line or word borders first, and few pieces are encoded at once: the
    tokenizer takes a hundred bytes and more for a token.
    """
    pieces = [list(_pieces(text)) for text in texts]
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    spelt_out, backend.encode_special_tokens = backend.encode_special_tokens, True
    try:
        flat = [piece for text in pieces for piece in text]
        encoded = iter(
            [ids for group in grouped(flat, len, _GROUP) for ids in _encoded(backend, group)]
        )
    finally:
        backend.encode_special_tokens = spelt_out
    return [np.concatenate([next(encoded) for _ in text]) for text in pieces]


def grouped(items: Iterable[T], size_of: Callable[[T], int], bound: int) -> Iterator[list[T]]:
    """Neighbours together until their sizes reach the bound; the last group may be smaller."""
    group, size = [], 0
    for item in items:
        group.append(item)
        size += size_of(item)
        if size >= bound:
            yield group
            group, size = [], 0
    if group:
        yield group


def chat_wrapping(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Token ids before and after a text as the user's turn, up to where the model would answer.

    Raises:
        ValueError: the tokenizer has no chat template, or one that changes what it wraps.
    """
    if not tokenizer.chat_template:
        raise ValueError(
            "packing chat must have a tokenizer with a chat template, got one without; pass an "
            "instruction-tuned model"
        )
    turn = [{"role": "user", "content": _PROBE}]
    wrapped = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    if wrapped.count(_PROBE) != 1:
        raise ValueError(f"chat template must hold the text once as it is, got {wrapped!r}")
    before, after = (
        tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"]
        for part in wrapped.split(_PROBE)
    )
    has_bos = before[:1] == [tokenizer.bos_token_id]
    return (before if has_bos else [tokenizer.bos_token_id, *before]), after


def _encoded(backend: Any, texts: list[str]) -> list[np.ndarray]:
    """Token ids by the backend itself: transformers' wrapper around it takes half as long again."""
    found = backend.encode_batch_fast(texts, add_special_tokens=False)
    return [np.asarray(encoding.ids, dtype=np.uint32) for encoding in found]


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
