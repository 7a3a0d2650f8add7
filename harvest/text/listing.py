"""Listing: which files are below a folder or match a pattern, by the same rules in every place.

Names that begin with a dot are left out unless a pattern spells the dot out. Links are followed. A
folder that several links lead to is read once, so a loop of links ends. In a pattern `*`, `?` and
`[…]` match inside a name, and `**` matches any number of folders. A name that exists exactly as it
is given is not taken as a pattern. `sources` decides which of the files are read.
"""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Protocol

SIGNS = "*?["
"""What makes a name a pattern."""


@dataclass(frozen=True)
class ListedName:
    """A name in a folder.

    Attributes:
        kind: `file`, `folder`, `broken link`, or `other` (pipes, devices).
    """

    name: str
    path: str
    kind: str
    is_link: bool = False


class Tree(Protocol):
    """Folders of some place."""

    def entries(self, folder: str) -> list[ListedName]:
        """What is in a folder, sorted by name; [] if there is no such folder."""
        ...

    def identity(self, path: str) -> str:
        """A text that is equal for all names of one folder."""
        ...


class LocalTree:
    """This machine's folders."""

    def entries(self, folder: str) -> list[ListedName]:
        """See `Tree.entries`."""
        here = "" if folder == "." else folder
        try:
            with os.scandir(here or ".") as found:
                entries = [
                    ListedName(one.name, os.path.join(here, one.name), _kind(one), one.is_symlink())  # noqa: PTH118
                    for one in found
                ]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(entries, key=lambda entry: entry.name)

    def identity(self, path: str) -> str:
        """See `Tree.identity`."""
        return os.path.realpath(path)


class RemoteTree:
    """Objects below a place, from one listing of them.

    Attributes:
        infos: path -> what the listing says of the object.
    """

    def __init__(self, infos: dict[str, Any], base: str):
        """Arranges the objects of a listing that are below `base` in folders."""
        self.infos = infos
        self._folders: dict[str, dict[str, ListedName]] = {}
        root = base.rstrip("/")
        for path, info in infos.items():
            if path.startswith(f"{root}/") and info["type"] == "file" and not path.endswith("/"):
                self._add(path, "file", root)

    def entries(self, folder: str) -> list[ListedName]:
        """See `Tree.entries`."""
        found = self._folders.get(folder.rstrip("/"), {})
        return [found[name] for name in sorted(found)]

    def identity(self, path: str) -> str:
        """See `Tree.identity`."""
        return path

    def _add(self, path: str, kind: str, root: str) -> None:
        folder, _, name = path.rpartition("/")
        known = self._folders.setdefault(folder, {})
        if name not in known:
            known[name] = ListedName(name, path, kind)
            if len(folder) > len(root):
                self._add(folder, "folder", root)


def walk(tree: Tree, folder: str) -> Iterator[ListedName]:
    """Yields everything below a folder except folders and hidden names."""
    for below in _folders(tree, folder):
        for entry in tree.entries(below):
            if entry.kind != "folder" and not entry.name.startswith("."):
                yield entry


def matching(tree: Tree, folder: str, pattern: list[str]) -> Iterator[ListedName]:
    """Yields the files below a folder that match a pattern, name by name; a file may come twice."""
    head, rest = pattern[0], pattern[1:]
    if head == "**":
        for below in _folders(tree, folder):
            yield from matching(tree, below, rest or ["*"])
        return
    entries = tree.entries(folder)
    fits = _named(head) if any(entry.name == head for entry in entries) else _like(head)
    for entry in entries:
        if fits(entry.name):
            if rest and entry.kind == "folder":
                yield from matching(tree, entry.path, rest)
            elif not rest and entry.kind == "file":
                yield entry


def split_pattern(path: str) -> tuple[str, list[str]]:
    """The folder before the first name that is a pattern, and the names from there on."""
    names = path.split("/")
    first = next(i for i, name in enumerate(names) if any(sign in name for sign in SIGNS))
    folder = "/".join(names[:first]) or ("/" if first else "")
    return folder, [name for name in names[first:] if name]


def _folders(tree: Tree, folder: str) -> Iterator[str]:
    """A folder and those below it, each once; links last, so that a folder keeps its own name."""
    seen: set[str] = set()
    waiting, links = [folder], list[str]()
    while waiting or links:
        here = waiting.pop() if waiting else links.pop(0)
        if (identity := tree.identity(here)) in seen:
            continue
        seen.add(identity)
        yield here
        for entry in tree.entries(here):
            if entry.kind == "folder" and not entry.name.startswith("."):
                (links if entry.is_link else waiting).append(entry.path)


def _named(name: str) -> Callable[[str], bool]:
    return lambda found: found == name


def _like(pattern: str) -> Callable[[str], bool]:
    hidden_too = pattern.startswith(".")
    return lambda found: (hidden_too or not found.startswith(".")) and fnmatchcase(found, pattern)


def _kind(found: os.DirEntry[str]) -> str:
    """What a name leads to, links followed."""
    try:
        mode = found.stat().st_mode
    except OSError:  # a link to nothing, or to itself
        return "broken link"
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) else "other"
