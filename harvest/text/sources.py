"""Sources: the files that are meant by `--text`.

Owns what may be given, and that each file is read once. `listing` finds the files of a folder or
pattern, `text_file` has what is known of one.
"""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...foreign import short
from ...store.place.location import StorageOptions
from ...store.place.place import Place
from .listing import SIGNS, ListedName, LocalTree, RemoteTree, matching, split_pattern, walk
from .stdlib import STDLIB, stdlib_sources
from .text_file import (
    TextFile,
    filesystem_of,
    info_of,
    is_stream,
    look_at,
    source_of,
    suffix_of,
)

TEXT = (".txt", ".md", ".rst", ".py", ".html", ".tex")
ROWS = (".jsonl", ".json", ".ndjson", ".parquet")
"""Suffixes of the files that are taken from a folder. A file given by name or by a glob is read
whatever its suffix."""


_PASS = "pass a file, folder, glob or URL"


def expand(
    paths: Iterable[str | Path], storage: StorageOptions = None, skipped: Counter[str] | None = None
) -> list[TextFile]:
    """The files meant by paths, folders, globs and URLs.

    Each file comes once, even if it is given several times under different names. The files of a
    folder or glob are sorted.

    Args:
        skipped: if given, counts what else is in the folders.

    Raises:
        FileNotFoundError: there is no such file or folder, nothing matches, or a folder has no text
            in it.
        ValueError: no path is given, or a URL's protocol is unknown.
        OSError: a place cannot be listed.
    """
    found: dict[str, TextFile] = {}
    counted: Counter[str] = Counter() if skipped is None else skipped
    for path in map(str, paths):
        for source in _expand(path, storage, counted):
            found.setdefault(_identity(source.path), source)
    if not found:
        raise ValueError("text must name at least one file, folder, glob or URL, got none")
    return list(found.values())


def _expand(path: str, storage: StorageOptions, skipped: Counter[str]) -> list[TextFile]:
    """One argument's files."""
    if is_stream(path):
        return [TextFile(path)]
    if path == STDLIB:
        return [look_at(str(file)) for file in stdlib_sources()]
    if Place(path).is_remote:
        return _expand_url(path, storage, skipped)
    local = Path(path.removeprefix("file://")).expanduser()
    if local.is_dir():
        files = _wanted(path, walk(LocalTree(), str(local)), skipped)
    elif local.is_file():
        files = [str(local)]
    elif local.exists():
        raise ValueError(
            f"text {path} must be a file or folder, got a pipe or device; pass - < {path}"
        )
    elif any(sign in path for sign in SIGNS):
        files = _found(path, matching(LocalTree(), *split_pattern(str(local))))
    else:
        raise FileNotFoundError(f"text {_shown(path)} does not exist; {_PASS}")
    return [look_at(file) for file in files]


def _expand_url(url: str, storage: StorageOptions, skipped: Counter[str]) -> list[TextFile]:
    """A URL's files, as URLs."""
    filesystem, path = filesystem_of(url, storage)
    info = info_of(url, storage)
    if info is not None and info["type"] == "file":
        return [source_of(url, info)]
    if info is not None:
        tree = _listed(url, storage, path)
        files = _wanted(url, walk(tree, path), skipped)
    elif any(sign in path for sign in SIGNS):
        folder, pattern = split_pattern(path)
        tree = _listed(url, storage, folder, None if "**" in pattern else len(pattern))
        files = _found(url, matching(tree, folder, pattern))
    else:
        raise FileNotFoundError(f"text {_shown(url)} does not exist; {_PASS}")
    return [source_of(filesystem.unstrip_protocol(file), tree.infos[file]) for file in files]


def _wanted(folder: str, entries: Iterable[ListedName], skipped: Counter[str]) -> list[str]:
    """Those of a folder's files that hold text by their suffix, sorted; the others are counted."""
    wanted: list[str] = []
    for entry in entries:
        if entry.kind == "broken link":
            skipped["broken links"] += 1
        elif entry.kind == "file" and suffix_of(entry.name)[0] in TEXT + ROWS:
            wanted.append(entry.path)
        else:
            skipped["files of other kinds"] += 1
    if not wanted:
        raise FileNotFoundError(
            f"text folder {folder} must hold files ending in {' '.join(TEXT + ROWS)}, got none; "
            "name files of other kinds by a glob"
        )
    return sorted(wanted)


def _found(pattern: str, entries: Iterable[ListedName]) -> list[str]:
    """The files that match a pattern, each once, sorted."""
    files = sorted({entry.path for entry in entries})
    if not files:
        raise FileNotFoundError(f"text {_shown(pattern)} matches no file; check the pattern")
    return files


def _shown(path: str) -> str:
    """A path in one line; of a text that was given for one, its beginning."""
    return short(path, 200)


def _identity(path: str) -> str:
    """A text that is equal for all names of one file."""
    if is_stream(path):
        return path
    return _filesystem_name(path) if Place(path).is_remote else os.path.realpath(path)


def _filesystem_name(url: str) -> str:
    """A URL as its file system spells it: equal for `gcs://` and `gs://`."""
    from fsspec.core import split_protocol
    from fsspec.registry import get_filesystem_class

    kind = get_filesystem_class(split_protocol(url)[0])
    return f"{kind.__name__}:{kind._strip_protocol(url)}"


def _listed(url: str, storage: StorageOptions, folder: str, depth: int | None = None) -> RemoteTree:
    """What is below a folder of a URL's file system, `depth` levels of it, in one listing."""
    from ...store.place.remote import attempt

    filesystem, _ = filesystem_of(url, storage)

    def asked() -> dict[str, Any]:
        filesystem.invalidate_cache()
        return filesystem.find(folder, maxdepth=depth, detail=True)

    try:
        return RemoteTree(attempt(f"text {url}", asked), folder)
    except FileNotFoundError:
        return RemoteTree({}, folder)
