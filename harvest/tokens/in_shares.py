"""In shares: the parts of a text tokenized by processes that know nothing of one another.

Owns which parts a share makes, and when there are enough of them to be packed. A part's file is all
that one process leaves for the others, so a killed share is continued by starting it again.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from ...console import NotReadyError, progress
from ...store import TokenStore
from ...workers.share import TaskShare
from ..settings import TokenizeSettings
from .part_files import TextPart, TokenizedTexts, read_part, write_part
from .splits import TRAIN
from .text_parts import make_part, parts_location, sweep_parts, token_limit


def make_share(
    parts: Sequence[TextPart], settings: TokenizeSettings, tokenizer: Any, share: TaskShare
) -> None:
    """Makes the missing parts of a share, at most as many as would fill the token budget alone.

    It ends early when the token store is complete. Streams are left to the share that packs.
    """
    location = parts_location(settings)
    there, n_tokens = set(location.children()), 0
    with progress("tokenize", None, "tokens") as bar:
        for part in (part for i, part in enumerate(parts) if part.key and share.has(i)):
            if part.key not in there:
                if _is_complete(settings):
                    return
                batches = make_part(part, settings, tokenizer)
                write_part(location, part, _counted(batches, bar.advance))
            if _fills(settings, n_tokens := n_tokens + _training_tokens(location, part, settings)):
                return
    sweep_parts(location)


def check_all_made(parts: Sequence[TextPart], settings: TokenizeSettings) -> None:
    """Raises NotReadyError if a part that is to be packed has not been made yet."""
    location, n_tokens = parts_location(settings), 0
    there = set(location.children())
    for part in (part for part in parts if part.key):
        if part.key not in there:
            missing = sum(1 for part in parts if part.key and part.key not in there)
            raise NotReadyError(
                f"{missing} of {len(parts)} parts of the text are not tokenized yet; other shares "
                "make them"
            )
        if _fills(settings, n_tokens := n_tokens + _training_tokens(location, part, settings)):
            return


def _fills(settings: TokenizeSettings, n_tokens: int) -> bool:
    """Whether so many training tokens fill the token budget."""
    limit = token_limit(settings)
    return limit is not None and n_tokens >= limit


def _training_tokens(location: Any, part: TextPart, settings: TokenizeSettings) -> int:
    """Tokens of a part's documents that are trained on; not counted without a budget."""
    if settings.tokens is None:
        return 0
    return sum(
        length
        for batch in read_part(location, part)
        for split, length in zip(batch.splits, batch.lengths, strict=True)
        if split == TRAIN
    )


def _counted(batches: Iterable[TokenizedTexts], advance: Any) -> Iterable[TokenizedTexts]:
    """Yields the batches, and advances the progress bar by their tokens."""
    for batch in batches:
        advance(len(batch.ids))
        yield batch


def _is_complete(settings: TokenizeSettings) -> bool:
    """Whether the token store is there."""
    with suppress(FileNotFoundError):
        TokenStore.open(settings.place(settings.out))
        return True
    return False
