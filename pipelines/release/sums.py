"""SHA256SUMS: the files of a release and their digests, as `sha256sum -c` reads them.

Owns the file's lines, and the check of a folder against them. A release is complete if SHA256SUMS
exists and `UNFINISHED` does not.
"""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from ...console import progress
from ...store.place.ownership import PREFIX

SUMS_FILE = "SHA256SUMS"
UNFINISHED = ".unfinished"
"""File with the names of a release that is being written, one a line."""

_LINE = re.compile(r"([0-9a-f]{64})  ([^\s/][^\n\\]*)")


def sums_of(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Name -> SHA-256 of files on disk, in the order of their names."""
    found = {}
    names = sorted(names)
    with progress("checksums", len(names), "files") as bar:
        for name in names:
            with (folder / name).open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
            bar.advance(1)
    return found


def sums_text(sums: dict[str, str]) -> str:
    """The file's text."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))


def read_sums(folder: Path) -> dict[str, str]:
    """Name -> SHA-256 of a complete release, read from its SHA256SUMS.

    Raises:
        FileNotFoundError: there is no complete release.
        ValueError: the file is damaged.
    """
    path = folder / SUMS_FILE
    if not path.is_file() or (folder / UNFINISHED).exists():
        raise FileNotFoundError(
            f"{folder} holds no complete release; run the command that writes it again"
        )
    return _parsed(path)


def check_release(folder: str | Path) -> dict[str, str]:
    """Reads and checks every file of a release; returns name -> SHA-256.

    Args:
        folder: the release's folder.

    Raises:
        FileNotFoundError: the release is not complete, or a file of it is missing.
        ValueError: a file was changed, or the folder holds another file.
    """
    folder = Path(folder)
    sums = read_sums(folder)
    missing = sorted(name for name in sums if not (folder / name).is_file())
    if missing:
        raise FileNotFoundError(
            f"release {folder} must hold {missing[0]}, which {SUMS_FILE} lists; release again"
        )
    others = sorted(files_in(folder) - sums.keys() - {SUMS_FILE})
    if others:
        raise ValueError(
            f"release {folder} must hold what {SUMS_FILE} lists and nothing else, got "
            f"{', '.join(others[:5])}; remove it"
        )
    for name, digest in sums_of(folder, sums).items():
        if digest != sums[name]:
            raise ValueError(
                f"{folder / name} must be the file that was released (SHA-256 {sums[name][:12]}…), "
                f"got {digest[:12]}…; it was changed or is damaged: release again"
            )
    return sums


def files_in(folder: Path) -> set[str]:
    """Names of a folder's files, without remains of killed writes and lock files."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if not path.is_dir()
        and not path.name.startswith(PREFIX)
        and not (path.name.startswith(".") and path.name.endswith(".partial"))
    }


def names_begun(folder: Path) -> set[str]:
    """Names of the files that this or an earlier release has, or may have, written.

    Raises:
        ValueError: SHA256SUMS is damaged.
    """
    names = {SUMS_FILE, UNFINISHED}
    if (folder / SUMS_FILE).is_file():
        names |= _parsed(folder / SUMS_FILE).keys()
    if (folder / UNFINISHED).is_file():
        names |= set((folder / UNFINISHED).read_text(encoding="utf-8").splitlines())
    return names


def _parsed(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be text, got other bytes; release again") from error
    for line in lines:
        match = _LINE.fullmatch(line)
        if match is None or ".." in match[2].split("/") or match[2] in found:
            raise ValueError(
                f"{path} must hold lines of sha256sum, got {line[:60]!r}; release again"
            )
        found[match[2]] = match[1]
    return found
