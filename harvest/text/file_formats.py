"""File formats: the documents inside one file.

Owns the reading of plain text, JSON lines and Parquet, row by row, and the naming of what is wrong
with a row. A bad row is yielded, not raised, so that the reader can count it and go on.
"""

import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ...foreign import one_line, whole_number
from ...store.place.location import StorageOptions
from .hub import hub_rows
from .text_file import HUB, STDIN, open_bytes, suffix_of

_MARK = "\ufeff"
"""The byte order mark that some editors begin a file with: no part of its text."""

_MISSING = object()
_ROWS_A_LINE = "write each row on a line of its own, as `jq -c '.[]'` does with an array"


@dataclass(frozen=True)
class TextDocument:
    """One text with the name it is reported under, and the subset it belongs to."""

    name: str
    text: str
    subset: str = ""


@dataclass(frozen=True)
class Bad:
    """One document that cannot be used: the reason it is counted under, and the full message."""

    reason: str
    message: str


@dataclass(frozen=True)
class RowOptions:
    """Where a row (of JSON lines or Parquet) has its text and its subset's name, and how URLs are
    opened."""

    text_field: str = "text"
    subset_field: str | None = None
    storage: StorageOptions = field(default=None, repr=False)


def documents_of(path: str, options: RowOptions) -> Iterator[TextDocument | Bad]:
    """Yields the documents of one file by the format its name says.

    Raises:
        OSError: the file cannot be opened or decompressed.
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
    except (OSError, ValueError) as error:
        if getattr(error, "filename", None) or path in str(error):
            raise
        raise OSError(f"text {path} cannot be read: {one_line(error)}") from error
    except Exception as error:  # drivers raise their libraries' own classes
        what = f"{type(error).__name__}: {one_line(error)}"
        raise OSError(f"text {path} cannot be read: {what}") from error


def _plain(path: str, options: RowOptions) -> Iterator[TextDocument | Bad]:
    """A whole file as one document, newlines as Python's text mode has them."""
    with open_bytes(path, options.storage) as file:
        data = file.read()
    try:
        text = data.decode("utf-8").removeprefix(_MARK)
    except UnicodeDecodeError as error:
        yield Bad("not UTF-8", f"text {path} must be UTF-8, got {_bytes_at(data, error)}")
        return
    if "\r" in text:
        text = io.StringIO(text, newline=None).read()
    yield TextDocument("standard input" if path == STDIN else path, text)


def _json_lines(path: str, options: RowOptions) -> Iterator[TextDocument | Bad]:
    """One document per line; blank lines are skipped."""
    with open_bytes(path, options.storage) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                row = json.loads(line.decode("utf-8").removeprefix(_MARK), parse_int=whole_number)
            except UnicodeDecodeError as error:
                yield Bad("not UTF-8", f"text {where} must be UTF-8, got {_bytes_at(line, error)}")
            except (ValueError, RecursionError) as error:
                yield Bad(
                    "broken JSON",
                    f"text {where} must be one line of JSON, got {_broken(line, error)}",
                )
            else:
                yield _document(where, row, options)


def _broken(line: bytes, error: Exception) -> str:
    """What is wrong with a line of JSON, and the likely reason."""
    if line.strip() in (b"[", b"{"):
        return f"{line.strip().decode()!r} alone; {_ROWS_A_LINE}"
    return one_line(error)


def _parquet(path: str, options: RowOptions) -> Iterator[TextDocument | Bad]:
    """One document per row. Only the needed columns are read, 256 rows at a time."""
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
        there = table.schema_arrow.names
        # A name with a dot is a column's own name, or the way into a nested one.
        columns = sorted({head for name in wanted for head in _heads(name)} & set(there))
        number = 0
        for batch in table.iter_batches(batch_size=256, columns=columns):
            for row in _rows(batch):
                number += 1
                where = f"{path}:{number}"
                if isinstance(row, UnicodeDecodeError):
                    got = _bytes_at(row.object, row)
                    yield Bad("not UTF-8", f"text {where} must be UTF-8, got {got}")
                else:
                    yield _document(where, row, options, there)


def _rows(batch: Any) -> Iterator[dict[str, Any] | UnicodeDecodeError]:
    """The rows of a batch, or the error of a row whose text is not UTF-8 (Parquet allows it)."""
    try:
        yield from batch.to_pylist()
        return
    except UnicodeDecodeError:
        pass
    for row in range(batch.num_rows):
        try:
            (found,) = batch.slice(row, 1).to_pylist()
        except UnicodeDecodeError as error:
            found = error
        yield found


def _hub(path: str, options: RowOptions) -> Iterator[TextDocument | Bad]:
    """One document per row of a data set on the hub."""
    for number, row in enumerate(hub_rows(path), start=1):
        yield _document(f"{path}:{number}", row, options)


_READERS: dict[str, Callable[[str, RowOptions], Iterator[TextDocument | Bad]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_lines,
    ".parquet": _parquet,
}


def _document(
    where: str, row: Any, options: RowOptions, fields: Iterable[str] | None = None
) -> TextDocument | Bad:
    """A row's document, or what it lacks; `fields` are the file's, where the row has only some."""
    text = _field(row, options.text_field)
    if not isinstance(text, str):
        return Bad("no text", f"text {where} {_lacks_text(row, text, options.text_field, fields)}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        # JSON may spell half a surrogate pair, which is no character and has no UTF-8.
        at = f"{error.object[error.start : error.start + 1]!r} at character {error.start}"
        return Bad("not UTF-8", f"text {where} must be text, got {at}")
    subset = _field(row, options.subset_field) if options.subset_field else ""
    if not isinstance(subset, str | int):
        return Bad(
            "no subset",
            f"text {where} must have a field {options.subset_field!r} that names its subset, got "
            f"{_shown(subset)}; name another with --subset-field",
        )
    return TextDocument(where, text.removeprefix(_MARK), str(subset))


def _lacks_text(row: Any, text: Any, name: str, fields: Iterable[str] | None) -> str:
    """The rest of an error: what a row must have, what it has instead, and what to do."""
    rule = f"must have a field {name!r} of text"
    if isinstance(row, list):
        return f"{rule}, got {row!r:.40}, an array; {_ROWS_A_LINE}"
    if not isinstance(row, dict):
        return f"{rule}, got {_shown(row)}; write an object a line"
    if text is not _MISSING:
        return f"{rule}, got {_shown(text)} in it; name another with --text-field"
    return f"{rule}, got the fields {', '.join(fields or map(str, row))}; name it with --text-field"


def _field(row: Any, name: str) -> Any:
    """row[name]; a name with dots goes into nested rows where no field has it whole."""
    if not isinstance(row, dict):
        return _MISSING
    for head in _heads(name):
        if head in row:
            found = row[head] if head == name else _field(row[head], name[len(head) + 1 :])
            if found is not _MISSING:
                return found
    return _MISSING


def _heads(name: str) -> list[str]:
    """The names that a dotted one may begin with, longest first: `a.b`, `a`."""
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(len(parts), 0, -1)]


def _shown(value: Any) -> str:
    """A value as the row's author would spell it."""
    if value is _MISSING:
        return "no such field"
    return "null" if value is None else f"{value!r:.40}"


def _bytes_at(data: bytes, error: UnicodeDecodeError) -> str:
    """Which bytes are no text, and where."""
    return f"{data[error.start : error.start + 4].hex(' ')} at byte {error.start}"
