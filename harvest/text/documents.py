"""Documents: all text as one stream, and which documents are held out.

Owns the count of what was read and skipped, and the fixed hash that splits documents into a
training and a held-out part. `sources` finds the files, `file_formats` reads one. Nothing is
tokenized here.
"""

import hashlib
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from .file_formats import Bad, RowOptions, TextDocument, documents_of
from .sources import expand
from .text_file import TextFile, unchanged

__all__ = [
    "ReadReport",
    "RowOptions",
    "TextDocument",
    "is_held_out",
    "read_documents",
    "read_files",
]


@dataclass
class ReadReport:
    """What was read, and what was skipped and why."""

    files: int = 0
    documents: int = 0
    characters: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    """Reason -> documents left out."""

    def add(self, other: "ReadReport") -> None:
        """Adds another report's counts to this one's."""
        self.files += other.files
        self.documents += other.documents
        self.characters += other.characters
        self.skipped.update(other.skipped)

    def refuse(self, bad: Bad, skip_bad: bool, document: TextDocument | None = None) -> None:
        """Counts a document that cannot be used.

        Args:
            bad: the reason and the message.
            skip_bad: count it, instead of raising.
            document: it, if it was counted as read before.

        Raises:
            ValueError: the message, unless `skip_bad`.
        """
        if not skip_bad:
            raise ValueError(f"{bad.message}; repair it, or pass --skip-bad")
        self.skipped[bad.reason] += 1
        if document is not None:
            self.documents -= 1
            self.characters -= len(document.text)

    def copy(self) -> "ReadReport":
        """The report as it is now."""
        return replace(self, skipped=self.skipped.copy())

    def since(self, earlier: "ReadReport") -> "ReadReport":
        """What was counted after an earlier `copy`."""
        return ReadReport(
            self.files - earlier.files,
            self.documents - earlier.documents,
            self.characters - earlier.characters,
            self.skipped - earlier.skipped,
        )

    def __str__(self) -> str:
        skipped = ", ".join(f"{n:,} {reason}" for reason, n in sorted(self.skipped.items()))
        return (
            f"read {self.files:,} files, {self.documents:,} documents, "
            f"{self.characters:,} characters; skipped {skipped or 'nothing'}"
        )


def read_documents(
    paths: Iterable[str | Path],
    options: RowOptions | None = None,
    report: ReadReport | None = None,
    skip_bad: bool = False,
) -> Iterator[TextDocument]:
    """Yields the documents of files, folders, globs and URLs, in a fixed order, as a stream.

    A `.jsonl`, `.ndjson` or `.json` file has one document per line, a `.parquet` file one per row;
    every other file is one document. `.gz`, `.bz2`, `.xz` and `.zst` are decompressed. Documents
    without any text are left out and counted.

    Args:
        paths: local paths, globs, fsspec URLs, `hf:NAME` for a data set of the Hugging Face hub
            (`hf:NAME:CONFIG@SPLIT`), or `-` for standard input.
        options: which fields of a row hold text and subset.
        report: filled while reading, if given.
        skip_bad: count documents that cannot be read and go on, instead of stopping at the first.

    Raises:
        FileNotFoundError: there is no such file, or nothing matches.
        OSError: a file cannot be read, or changed while it was read.
        ValueError: text is not UTF-8, or a row is broken or has no text; names file and line.
    """
    options, report = options or RowOptions(), report if report is not None else ReadReport()
    sources = expand(paths, options.storage, report.skipped)
    return documents_in(sources, options, report, skip_bad)


def documents_in(
    sources: Iterable[TextFile],
    options: RowOptions,
    report: ReadReport,
    skip_bad: bool = False,
    min_characters: int = 1,
) -> Generator[TextDocument, None, None]:
    """Yields the documents of files that `expand` has found; otherwise as `read_documents`.

    Documents of fewer than `min_characters` are left out and counted as too short.
    """
    for source in sources:
        report.files += 1
        with unchanged(source, options.storage):
            for document in documents_of(source.path, options):
                if isinstance(document, Bad):
                    report.refuse(document, skip_bad)
                elif not document.text.strip():
                    report.skipped["empty"] += 1
                elif len(document.text) < min_characters:
                    report.skipped["too short"] += 1
                else:
                    report.documents += 1
                    report.characters += len(document.text)
                    yield document


def read_files(paths: Iterable[Path]) -> Iterator[TextDocument]:
    """Yields one document per file, in the order given; undecodable bytes become U+FFFD, and a
    byte order mark is no part of the text."""
    for path in paths:
        yield TextDocument(str(path), path.read_text(encoding="utf-8-sig", errors="replace"))


def is_held_out(text: str, share: float) -> bool:
    """Whether a document is held out: blake2b(text) < share, as a fraction of the hash's range.

    A pure function of the text, so that every stage, machine and rerun splits the same documents
    the same way and copies of one document never end up on both sides.
    """
    digest = hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64
