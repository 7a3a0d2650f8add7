"""Encoding: texts to token ids, in bounded memory.

Owns the use of the tokenizer's backend. `packing` adds BOS and EOS.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

_PIECE_CHARACTERS = 2**18
_GROUP = 2**21
# No token spans the start of white space, but a run of white space may be one token: so texts are
# cut before a run, never inside or after it.
_LINE_BORDER, _WORD_BORDER = re.compile(r"(?<=\S)(?=\n)"), re.compile(r"(?<=\S)(?= )")


def token_ids(tokenizer: Any, texts: list[str]) -> list[np.ndarray]:
    """Each text's token ids, uint32 [n], without special tokens, even if a text spells one out.

    To bound memory, very long texts are cut at line or word borders, and only about 2 million
    characters are encoded at once: the tokenizer takes more than a hundred bytes for a token.
    """
    pieces = [list(_pieces(text)) for text in texts]
    backend = tokenizer.backend_tokenizer
    flat = [piece for text in pieces for piece in text]
    with _as_text(backend):
        encoded = iter(
            [ids for group in grouped(flat, len, _GROUP) for ids in _encoded(backend, group)]
        )
    return [np.concatenate([next(encoded) for _ in text]) for text in pieces]


def grouped(items: Iterable[T], size_of: Callable[[T], int], bound: int) -> Iterator[list[T]]:
    """Groups of neighbours whose sizes add up to the bound; the last group may be smaller."""
    group, size = [], 0
    for item in items:
        group.append(item)
        size += size_of(item)
        if size >= bound:
            yield group
            group, size = [], 0
    if group:
        yield group


def unknown_share(tokenizer: Any, text: str, ids: np.ndarray) -> float:
    """Share of a text's characters that the tokenizer encodes as the unknown token.

    Args:
        tokenizer: transformers' tokenizer.
        text: the text.
        ids: its token ids, possibly with a chat template's around them. If there are none, the
            share is 1.
    """
    if not len(ids):
        return 1.0
    unknown = tokenizer.unk_token_id
    if unknown is None or not (ids == unknown).any():
        return 0.0
    backend, n = tokenizer.backend_tokenizer, 0
    with _as_text(backend):
        for piece in _pieces(text):
            encoding = backend.encode(piece, add_special_tokens=False)
            offsets = zip(encoding.ids, encoding.offsets, strict=True)
            n += sum(stop - start for one, (start, stop) in offsets if one == unknown)
    return n / len(text)


@contextmanager
def _as_text(backend: Any) -> Iterator[None]:
    """Inside the block texts are encoded whole, and a special token that one spells out is text."""
    backend.no_truncation()
    backend.no_padding()
    spelt_out, backend.encode_special_tokens = backend.encode_special_tokens, True
    try:
        yield
    finally:
        backend.encode_special_tokens = spelt_out


def _encoded(backend: Any, texts: list[str]) -> list[np.ndarray]:
    """Token ids by the backend itself: through transformers' wrapper it takes 1.5 times as long."""
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
