"""Formats: the documents inside one file.

Owns the reading of plain text, JSON lines and Parquet, row by row, and the naming of what is wrong
with a row. A bad row is yielded, not raised, so that whoever reads can count it and go on.
"""

import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .hub import hub_rows
from .sources import HUB, STDIN, Storage, open_bytes, suffix_of


@dataclass(frozen=True)
class Document:
    """One text with the name it is reported under, and the subset it belongs to."""

    name: str
    text: str
    subset: str = ""


@dataclass(frozen=True)
class Bad:
    """One document that cannot be used: the reason it is counted under, and the whole story."""

    reason: str
    message: str


@dataclass(frozen=True)
class RowOptions:
    """Where a row (of JSON lines or Parquet) has its text and its subset's name, and how URLs are
    opened."""

    text_field: str = "text"
    subset_field: str | None = None
    storage: Storage = None


def documents_of(path: str, options: RowOptions) -> Iterator[Document | Bad]:
    """Yields the documents of one file by the format its name says.

    Raises:
        OSError: the file cannot be opened or unpacked.
    """
    reader = _hub if path.startswith(HUB) else _READERS.get(suffix_of(path)[0], _plain)
    try:
        yield from reader(path, options)
    except EOFError as error:
        raise OSError(
            f"text {path} ends in the middle of its compressed data; fetch it again"
        ) from error
    except (zlib.error, lzma.LZMAError) as error:
        raise OSError(
            f"text {path} is damaged in its compressed data ({error}); fetch it again"
        ) from error
    except OSError as error:
        if error.filename or path in str(error):
            raise
        raise OSError(f"text {path} cannot be read: {error}") from error


def _plain(path: str, options: RowOptions) -> Iterator[Document | Bad]:
    """A whole file as one document, newlines as Python's text mode has them."""
    with open_bytes(path, options.storage) as file:
        data = file.read()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        yield Bad("not UTF-8", f"text {path} must be UTF-8, got {_bytes_at(data, error)}")
        return
    if "\r" in text:
        text = io.StringIO(text, newline=None).read()
    yield Document("standard input" if path == STDIN else path, text)


def _json_lines(path: str, options: RowOptions) -> Iterator[Document | Bad]:
    """One document a line; blank lines do not count."""
    with open_bytes(path, options.storage) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                row = json.loads(line)
            except UnicodeDecodeError as error:
                yield Bad("not UTF-8", f"text {where} must be UTF-8, got {_bytes_at(line, error)}")
            except (json.JSONDecodeError, RecursionError) as error:
                yield Bad("broken JSON", f"text {where} must be one line of JSON, got {error}")
            else:
                yield _document(where, row, options)


def _parquet(path: str, options: RowOptions) -> Iterator[Document | Bad]:
    """One document a row; only the columns that are needed are read, a group of rows at a time."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(
            f"text {path} needs pyarrow to be read; pip install 'scopeworks[datasets]'"
        ) from error
    wanted = [name for name in (options.text_field, options.subset_field) if name]
    with open_bytes(path, options.storage) as file:
        try:
            table = pyarrow.parquet.ParquetFile(file)
        except pyarrow.ArrowInvalid as error:
            raise ValueError(f"text {path} must be a Parquet file: {error}") from error
        columns = sorted(
            {name.partition(".")[0] for name in wanted} & set(table.schema_arrow.names)
        )
        number = 0
        for batch in table.iter_batches(batch_size=256, columns=columns):
            for row in batch.to_pylist():
                number += 1
                yield _document(f"{path}:{number}", row, options)


def _hub(path: str, options: RowOptions) -> Iterator[Document | Bad]:
    """One document a row of a data set on the hub."""
    for number, row in enumerate(hub_rows(path), start=1):
        yield _document(f"{path}:{number}", row, options)


_READERS: dict[str, Callable[[str, RowOptions], Iterator[Document | Bad]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_lines,
    ".parquet": _parquet,
}


def _document(where: str, row: Any, options: RowOptions) -> Document | Bad:
    """A row's document, or what it lacks."""
    text = _field(row, options.text_field)
    if not isinstance(text, str):
        got = f"the fields {', '.join(map(str, row))}" if isinstance(row, dict) else f"{row!r:.40}"
        return Bad(
            "no text",
            f"text {where} must have a field {options.text_field!r} of text, got {got}; "
            "name it with --text-field",
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        # JSON may spell half a surrogate pair, which is no character and has no UTF-8.
        at = f"{error.object[error.start : error.start + 1]!r} at character {error.start}"
        return Bad("not UTF-8", f"text {where} must be text, got {at}")
    subset = _field(row, options.subset_field) if options.subset_field else ""
    if not isinstance(subset, str | int):
        return Bad(
            "no subset", f"text {where} must have a field {options.subset_field!r}, got {subset!r}"
        )
    return Document(where, text, str(subset))


def _field(row: Any, name: str) -> Any:
    """row[name]; a dotted name goes into nested rows."""
    for part in name.split("."):
        row = row.get(part) if isinstance(row, dict) else None
    return row


def _bytes_at(data: bytes, error: UnicodeDecodeError) -> str:
    """Which bytes are no text, and where."""
    return f"{data[error.start : error.start + 4].hex(' ')} at byte {error.start}"
