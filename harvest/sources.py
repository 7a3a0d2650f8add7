"""Sources: from what is given as `--text` to the files that are read, and their bytes.

Owns folders, globs, URLs and compression. What is inside a file is `formats`' business.
"""

import bz2
import glob
import gzip
import hashlib
import io
import lzma
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ..store.options import options_for

STDIN = "-"
HUB = "hf:"
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
TEXT = (".txt", ".md", ".rst", ".py", ".html", ".tex")
ROWS = (".jsonl", ".json", ".ndjson", ".parquet")
"""What is taken from a folder; a file given by name or by a glob is read whatever its suffix."""

_GLOB = "*?["

Storage = dict[str, Any] | None
"""Options of URLs' file systems, as fsspec takes them."""


def expand(paths: Iterable[str | Path], storage: Storage = None) -> list[str]:
    """The files meant by paths, folders, globs and URLs: each once, a folder's or glob's in sorted
    order.

    Raises:
        FileNotFoundError: there is no such file or folder, nothing matches, or a folder has no text
            in it.
        ValueError: no path is given, or a URL's protocol is unknown.
    """
    files = list(dict.fromkeys(file for path in paths for file in _expand(str(path), storage)))
    if not files:
        raise ValueError("text must name at least one file, folder, glob or URL, got none")
    return files


def suffix_of(path: str) -> tuple[str, str]:
    """(format, compression) by a file's name, lower case: (`.jsonl`, `.gz`) of `a.jsonl.gz`."""
    suffixes = [suffix.lower() for suffix in PurePosixPath(path).suffixes]
    compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSED else ""
    return (suffixes[-1] if suffixes else ""), compression


@contextmanager
def open_bytes(path: str, storage: Storage = None) -> Iterator[IO[bytes]]:
    """Opens a file for reading, unpacked; `-` is standard input.

    Raises:
        OSError: it cannot be opened.
        ValueError: what unpacks it is not installed.
    """
    if path == STDIN:
        yield sys.stdin.buffer
        return
    with ExitStack() as stack:
        raw = stack.enter_context(_filesystem(path, storage)[0].open(path, "rb"))
        unpack = _UNPACK.get(suffix_of(path)[1])
        yield stack.enter_context(unpack(raw)) if unpack is not None else raw


@dataclass(frozen=True)
class Source:
    """One file as it is now.

    Attributes:
        size: bytes, None where the server does not say.
        state: all that its file system says of it (times, tags), hashed: changes when it changes.
    """

    path: str
    size: int | None
    state: str


def look_at(file: str, storage: Storage = None) -> Source | None:
    """A file's size and state; None for a stream, which has neither."""
    if is_stream(file):
        return None
    filesystem, path = _filesystem(file, storage)
    info = filesystem.info(path)
    known = repr(sorted((name, str(value)) for name, value in info.items()))
    state = hashlib.blake2b(known.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
    return Source(file, info.get("size"), state)


def is_stream(file: str) -> bool:
    """Whether text comes as a stream that cannot be read twice alike: standard input, the hub."""
    return file == STDIN or file.startswith(HUB)


def _expand(path: str, storage: Storage) -> Iterator[str]:
    """One argument's files."""
    if is_stream(path):
        yield path
    elif "://" in path:
        yield from _expand_url(path, storage)
    elif Path(path).expanduser().is_dir():
        yield from _folder(path, sorted(map(str, _walk(Path(path).expanduser()))))
    elif Path(path).expanduser().is_file():
        yield str(Path(path).expanduser())
    elif any(sign in path for sign in _GLOB):
        yield from _matches(path, sorted(_glob_local(path)))
    else:
        raise FileNotFoundError(f"text {path} does not exist; pass a file, folder, glob or URL")


def _expand_url(url: str, storage: Storage) -> Iterator[str]:
    """A URL's files, as URLs."""
    filesystem, path = _filesystem(url, storage)
    if any(sign in path for sign in _GLOB):
        found = [name for name in sorted(filesystem.glob(path)) if filesystem.isfile(name)]
        yield from _matches(url, [filesystem.unstrip_protocol(name) for name in found])
    elif filesystem.isfile(path):
        yield url
    elif filesystem.isdir(path):
        found = sorted(filesystem.find(path))
        yield from _folder(url, [filesystem.unstrip_protocol(name) for name in found])
    else:
        raise FileNotFoundError(f"text {url} does not exist; pass a file, folder, glob or URL")


def _folder(folder: str, files: list[str]) -> list[str]:
    """Those of a folder's files that hold text by their suffix."""
    wanted = [file for file in files if suffix_of(file)[0] in TEXT + ROWS]
    if not wanted:
        raise FileNotFoundError(
            f"text folder {folder} must hold files ending in {' '.join(TEXT + ROWS)}, got none; "
            "name files of other kinds by a glob"
        )
    return wanted


def _matches(pattern: str, files: list[str]) -> list[str]:
    if not files:
        raise FileNotFoundError(f"text {pattern} matches no file; check the pattern")
    return files


def _walk(folder: Path) -> Iterator[Path]:
    """Every file below a folder but the hidden ones."""
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.is_file():
            yield path


def _glob_local(pattern: str) -> Iterator[str]:
    """Files that match a pattern; `**` crosses folders."""
    expanded = str(Path(pattern).expanduser())
    # Path.glob takes no absolute patterns.
    found = glob.iglob(expanded, recursive=True)  # noqa: PTH207
    return (name for name in found if Path(name).is_file())


def _filesystem(url: str, storage: Storage = None) -> tuple[Any, str]:
    """fsspec's file system for a URL or local path, and the path in it."""
    import fsspec

    try:
        return fsspec.url_to_fs(url, **(options_for(url, storage) or {}))
    except (ImportError, ValueError) as error:
        raise ValueError(f"text URL {url} cannot be read: {error}") from error


def _zstd(raw: Any) -> IO[bytes]:
    """Unpacks Zstandard as a stream."""
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
