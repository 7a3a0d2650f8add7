"""Documents: which text there is, and which of it is held out.

Owns the walk over files and the fixed hash that splits documents into a training and a held-out
part. Does not tokenize: see `tokenize`.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Document:
    """One text with the name it is reported under."""

    name: str
    text: str


def read_files(paths: Iterable[Path]) -> Iterator[Document]:
    """Yields one document per file, in the order given; undecodable bytes become U+FFFD."""
    for path in paths:
        yield Document(str(path), path.read_text(encoding="utf-8", errors="replace"))


def is_held_out(text: str, share: float) -> bool:
    """Whether a document belongs to the held-out part: blake2b(text) < share, as a fraction of its
    range.

    A pure function of the text, so that every stage, machine and rerun splits the same documents
    the same way and copies of one document never end up on both sides.
    """
    digest = hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64
