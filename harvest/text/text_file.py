"""One text file: what is known of it, its bytes, and the check that it has not changed meanwhile.

Owns local files, URLs and standard input, and compression. `sources` decides which files are read,
`file_formats` reads what is inside one.
"""

import bz2
import gzip
import io
import lzma
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ...store.place.location import StorageOptions
from ...store.place.place import Place

STDIN = "-"
HUB = "hf:"
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")

_VERSIONS = (
    ("generation",),
    ("ETag", "etag", "md5Hash", "content_md5", "Content-MD5"),
    ("mtime", "modified", "LastModified", "last_modified", "Last-Modified", "updated", "created"),
)
"""Entries that change when an object does, by the names that file systems give them. The first one
found is compared. Times come last: a listing may round them differently than the object's own
record does."""


@dataclass(frozen=True)
class TextFile:
    """One file as it was listed.

    Attributes:
        size: bytes, None where the server does not say.
        state: changes when the file does: its generation, tag or time; "" where nothing is known.
    """

    path: str
    size: int | None = None
    state: str = ""


def is_stream(file: str) -> bool:
    """Whether text comes as a stream, which may differ when it is read again: standard input and
    the hub's data sets."""
    return file == STDIN or file.startswith(HUB)


def suffix_of(path: str) -> tuple[str, str]:
    """(format, compression) by a file's name, lower case: (`.jsonl`, `.gz`) of `a.jsonl.gz`."""
    suffixes = [suffix.lower() for suffix in PurePosixPath(path).suffixes]
    compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSED else ""
    return (suffixes[-1] if suffixes else ""), compression


@contextmanager
def open_bytes(path: str, storage: StorageOptions = None) -> Iterator[IO[bytes]]:
    """Opens a file for reading, decompressed; `-` is standard input.

    Raises:
        OSError: it cannot be opened.
        ValueError: the library that decompresses it is not installed.
    """
    if path == STDIN:
        yield sys.stdin.buffer
        return
    with ExitStack() as stack:
        raw = stack.enter_context(open_raw(path, storage))
        unpack = _UNPACK.get(suffix_of(path)[1])
        yield stack.enter_context(unpack(raw)) if unpack is not None else raw


def look_at(path: str, storage: StorageOptions = None) -> TextFile:
    """A file as it is at this moment.

    Raises:
        FileNotFoundError: there is none.
    """
    if is_stream(path):
        return TextFile(path)
    if not Place(path).is_remote:
        found = Path(path).stat()
        return TextFile(path, found.st_size, f"mtime={found.st_mtime_ns}")
    info = info_of(path, storage)
    if info is None:
        raise FileNotFoundError(f"text {path} does not exist")
    return source_of(path, info)


@contextmanager
def unchanged(source: TextFile, storage: StorageOptions = None) -> Iterator[None]:
    """Checks that the file read in the block is still the one that was listed.

    Raises:
        OSError: it has changed by the end of the block; also if reading it raised something else.
    """
    try:
        yield
    finally:
        try:
            now = look_at(source.path, storage)
        except FileNotFoundError:
            now = None
        if now != source:
            raise OSError(
                f"text {source.path} was changed while it was read; run the same command again "
                "when nothing writes to it"
            )


def info_of(url: str, storage: StorageOptions) -> dict[str, Any] | None:
    """What a file system says of an object or folder at this moment; None if there is none."""
    from ...store.place.remote import attempt

    filesystem, path = filesystem_of(url, storage)

    def asked() -> dict[str, Any]:
        filesystem.invalidate_cache()
        return filesystem.info(path)

    try:
        return attempt(f"text {url}", asked)
    except FileNotFoundError:
        return None


def source_of(url: str, info: dict[str, Any]) -> TextFile:
    """What is known of an object."""
    for names in _VERSIONS:
        for name in names:
            if value := info.get(name):
                # Some file systems give a time in seconds in a listing, and as a date elsewhere.
                shown = value.timestamp() if isinstance(value, datetime) else value
                return TextFile(url, info.get("size"), f"{name}={shown}")
    return TextFile(url, info.get("size"))


def filesystem_of(url: str, storage: StorageOptions = None) -> tuple[Any, str]:
    """fsspec's file system for a URL, and the path in it."""
    import fsspec

    try:
        return fsspec.url_to_fs(url, **(storage or {}))
    except (ImportError, ValueError) as error:
        raise ValueError(f"text URL {url} cannot be read: {error}") from error


def open_raw(path: str, storage: StorageOptions = None) -> Any:
    """Opens a file's bytes as they are stored, without decompressing them.

    Raises:
        OSError: it cannot be opened.
    """
    if not Place(path).is_remote:
        return Path(path).open("rb")
    filesystem, name = filesystem_of(path, storage)
    return filesystem.open(name, "rb")


def _zstd(raw: Any) -> IO[bytes]:
    """Decompresses Zstandard as a stream."""
    try:
        import pyarrow
    except ImportError as error:
        raise ValueError(
            "text in .zst files needs pyarrow to be unpacked; pip install 'scopeworks[datasets]'"
        ) from error
    stream: Any = pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, "r"), "zstd")
    return io.BufferedReader(stream, 2**20)


_UNPACK: dict[str, Callable[[Any], Any]] = {
    ".gz": lambda raw: gzip.GzipFile(fileobj=raw),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".zst": _zstd,
}
