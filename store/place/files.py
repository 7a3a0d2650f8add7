"""The one way to write a file, or a folder of files that belong together, on this machine.

A file is written under a temporary name, flushed and renamed, and its folder is flushed. So the old
file or all of the new one is there at any moment, also after a power cut. A folder is finished when
its *last* file is there: the last file is removed before any other is touched, and written after
all others are on the disk. A killed process leaves temporary files; they are removed when the same
file is written again. `remote` writes objects behind fsspec, where a put is atomic.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ...machine import nearest
from .local import LocalFiles
from .place import PATH_RULE, is_too_long

Parts = Iterable[bytes | memoryview]


def write_file(path: Path, parts: Parts | bytes) -> None:
    """Writes a file so that readers, now and after a power cut, see the old one or the new one.

    Raises:
        OSError: naming the file; the old one is untouched.
    """
    write_folder(path.parent, {}, (path.name, parts))


def check_can_be_written(path: Path, name: str) -> None:
    """Checks, before hours of work, that their result can be written.

    Args:
        path: the file that will be written.
        name: the setting that names it, for errors.

    Raises:
        OSError: the path is a folder, pipe or device, its folder is a file, or permission is
            missing.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{name} must be a file, got the folder {path}")
    if path.exists() and not path.is_file():  # a rename would replace the pipe or device
        raise OSError(f"{name} must be a file, got {path}, a pipe or device; pass another path")
    folder = nearest(path.parent)
    if not folder.is_dir():
        raise NotADirectoryError(f"{name} must be in a folder, got {path}: {folder} is a file")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{name} must be in a folder that can be written, got {folder}")


def check_is_replaced(path: Path, name: str, what: str, is_one: Callable[[bytes], bool]) -> None:
    """Refuses to replace a file that something else wrote; an empty file may be replaced.

    Args:
        path: the file that will be written.
        name: the setting that names it, for errors.
        what: what may be there, for errors.
        is_one: whether a file's content is that.

    Raises:
        ValueError: there is a file of something else.
    """
    if path.is_file() and (data := path.read_bytes()) and not is_one(data):
        raise ValueError(
            f"{name} must be a new file or {what} to write over, got {path}, a file of something "
            "else; pass another path"
        )


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON as `write_file` does; ValueError for NaN and infinities."""
    write_file(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """Indented JSON with a newline at its end; ValueError for NaN and infinities."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def write_folder(folder: Path, files: Mapping[str, Parts], last: tuple[str, Parts | bytes]) -> None:
    """Writes files that belong together; the folder is finished once `last` is there.

    Args:
        folder: made if it does not exist; other files in it are left alone.
        files: name -> the file's content, in parts.
        last: name and content of the file that marks the folder as finished.

    Raises:
        OSError: naming the file that could not be written.
    """
    place = LocalFiles(folder)
    name, content = last
    place.sweep([*files, name])
    if files:
        place.remove(name)
    for key, parts in files.items():
        place.write(key, parts)
    if files:
        place.flush(files)
    place.write(name, [content] if isinstance(content, bytes) else content)
    place.flush([name])


def stamp(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Name, size and time of each of the files that is there: tells, without reading them, whether
    any was written again."""
    there = [(file.name, file.stat()) for file in files if file.is_file()]
    return [(name, found.st_size, found.st_mtime_ns) for name, found in there]


def leftovers(folder: Path) -> list[Path]:
    """Temporary files: being written now, or left by a process that was killed."""
    return sorted(folder.glob(".*.partial")) if folder.is_dir() else []


def local_path(path: Path) -> Path:
    """The path; ValueError for a URL, which pathlib would turn into a folder named `gs:`, and for
    what no file system takes."""
    if is_too_long(str(path)):
        raise ValueError(f"must be a path {PATH_RULE}")
    if re.match(r"\w[\w+.-]+:/", str(path)):
        raise ValueError("must be a local path; only stores and checkpoints may be at a URL")
    return path
