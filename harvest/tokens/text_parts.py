"""Parts: text cut into pieces of work.

Owns how text is cut, what identifies a part, where its file waits for packing, and how it is made.
A part's content depends on its files and the settings alone: any process may make it, in any order,
and one that is there need not be made again. `run`, `in_shares` and `on_dask` decide who makes
which; `part_files` has the file's format.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from typing import Any

import numpy as np

from ...store.place.files import leftovers
from ...store.place.local import LocalFiles
from ...store.place.locate import locate
from ...store.place.location import Location
from ...store.place.ownership import owned
from ...store.place.partials import target_of
from ..settings import TokenizeSettings
from ..text.documents import ReadReport, RowOptions, TextDocument, documents_in
from ..text.file_formats import Bad
from ..text.text_file import TextFile, is_stream
from .chat import ChatTemplate
from .encoding import grouped, token_ids, unknown_share
from .part_files import TextPart, TokenizedTexts
from .splits import TRAIN, split_of

PART_BYTES = 2**25
"""A part is neighbouring files of up to so many bytes together, or one larger file."""

_BATCH_CHARACTERS = 2**20  # so that the tokenizer's threads have work
_MAX_UNKNOWN = 0.1
"""Share of a document's characters that may be unknown to the tokenizer: a few signs of another
alphabet are no reason to stop. Gemma's own tokenizer falls back to bytes and knows all."""

_VERSION = 2
_DECIDING = {"text_field", "subset_field", "min_characters", "skip_bad", "held_out"}
_KEY = re.compile("[0-9a-f]{24}")
"""What the name of a part's file looks like."""


def cut(sources: Iterable[TextFile], settings: TokenizeSettings, tokenizer: str) -> list[TextPart]:
    """Cuts files into parts of neighbouring files, the same in every process; see `PART_BYTES`.

    Args:
        sources: in reading order.
        settings: of the command.
        tokenizer: the tokenizer's identity, see `chat.identity_of`.
    """
    parts: list[TextPart] = []
    group: list[TextFile] = []
    for source in sources:
        stream = is_stream(source.path)
        size = sum(one.size or PART_BYTES for one in group)
        if group and (stream or size + (source.size or PART_BYTES) > PART_BYTES):
            parts.append(_part(group, settings, tokenizer))
            group = []
        if stream:
            parts.append(TextPart((source,), ""))
        else:
            group.append(source)
    return [*parts, _part(group, settings, tokenizer)] if group else parts


def parts_location(settings: TokenizeSettings) -> Location:
    """Where the parts wait: beside the token store, where all workers reach it."""
    return locate(settings.place(settings.out).beside(".parts"))


def remove_parts(settings: TokenizeSettings) -> None:
    """Removes all parts that wait beside the token store, one by one, and nothing else there."""
    location = parts_location(settings)
    for name in location.children():
        if _KEY.fullmatch(name):
            location.remove(name)
    sweep_parts(location)


@contextmanager
def owned_parts(settings: TokenizeSettings) -> Iterator[None]:
    """Lets one command at a time make an output on this machine: it owns the folder of the parts.

    The folder is removed at the end if it is empty. An output in a bucket is not protected.

    Raises:
        ValueError: another command is making the output; the text says which.
    """
    location = parts_location(settings)
    if not isinstance(location, LocalFiles):
        yield
        return
    with owned(location.root, wait=None):
        yield
    with suppress(OSError):  # not empty: it has other files
        location.root.rmdir()


def sweep_parts(location: Location) -> None:
    """Removes the unfinished files of parts that killed commands were writing."""
    if isinstance(location, LocalFiles):
        location.sweep(target_of(partial) for partial in leftovers(location.root))


def make_part(
    part: TextPart, settings: TokenizeSettings, tokenizer: Any
) -> Iterator[TokenizedTexts]:
    """Yields a part's batches, tokenized here; stops once they alone fill the token budget.

    With packing chat, a document's ids have the chat template's around them.

    Raises:
        OSError, ValueError: as `read_documents`, or the tokenizer or chat template does not take a
            document.
    """
    options = RowOptions(settings.text_field, settings.subset_field, settings.storage_options)
    report, limit = ReadReport(), token_limit(settings)
    documents = documents_in(
        part.sources, options, report, settings.skip_bad, settings.min_characters
    )
    encode = _encoder(settings, tokenizer)
    seen, n_train = ReadReport(), 0
    with closing(documents):
        for texts in grouped(documents, lambda document: len(document.text), _BATCH_CHARACTERS):
            splits, ids = [], [np.empty(0, np.uint32)]
            for document, one in zip(texts, encode(texts), strict=True):
                if isinstance(one, Bad):
                    report.refuse(one, settings.skip_bad, document)
                else:
                    splits.append(split_of(document, settings))
                    ids.append(one)
            lengths = [len(one) for one in ids[1:]]
            yield TokenizedTexts(splits, lengths, np.concatenate(ids), report.since(seen))
            seen = report.copy()
            n_train += sum(n for s, n in zip(splits, lengths, strict=True) if s == TRAIN)
            if limit is not None and n_train >= limit:
                return
    yield TokenizedTexts([], [], np.empty(0, np.uint32), report.since(seen))


def _encoder(
    settings: TokenizeSettings, tokenizer: Any
) -> Callable[[list[TextDocument]], list[np.ndarray | Bad]]:
    """A function from documents to their ids, or to what is wrong with one."""
    template = ChatTemplate(tokenizer) if settings.packing == "chat" else None

    def checked(document: TextDocument, ids: np.ndarray | Bad) -> np.ndarray | Bad:
        if isinstance(ids, Bad):
            return ids
        share = unknown_share(tokenizer, document.text, ids)
        if share <= _MAX_UNKNOWN:
            return ids
        return Bad(
            "unknown to the tokenizer",
            f"text {document.name} must be known to the tokenizer of {settings.model}, got "
            f"{share:.0%} of its characters as unknown; tokenize it for a model of its language",
        )

    def encode(documents: list[TextDocument]) -> list[np.ndarray | Bad]:
        texts = [document.text for document in documents]
        ids = token_ids(tokenizer, texts) if template is None else template.token_ids(documents)
        return [checked(document, one) for document, one in zip(documents, ids, strict=True)]

    return encode


def token_limit(settings: TokenizeSettings) -> int | None:
    """Training tokens of one part that fill the whole budget, whatever the other parts hold."""
    return None if settings.tokens is None else settings.tokens + settings.context


def _part(group: list[TextFile], settings: TokenizeSettings, tokenizer: str) -> TextPart:
    """A part; its key is a hash of its files' state and of everything that decides the ids."""
    identity = {
        "version": _VERSION,
        "tokenizer": tokenizer,
        "files": [asdict(source) for source in group],
        "limit": token_limit(settings),
        **settings.model_dump(include=_DECIDING),
    }
    text = json.dumps(identity, sort_keys=True).encode("utf-8")
    return TextPart(tuple(group), hashlib.blake2b(text, digest_size=12).hexdigest())
