"""A place: a URL and the options of its file system, as one value.

Owns which URLs are local, and the names of places beside a place, for files that belong to a store
without being part of it (`<out>.tokenize.json`, `<out>.parts`). The root of a cloud bucket has
nothing beside it; its files are in a folder inside, which stores leave alone. `locate` gives the
reader and writer of a place.
"""

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...foreign import short
from .location import StorageOptions

INSIDE = "beside"
"""Folder inside a cloud bucket's root, for files that would otherwise be beside it."""


_NAME_BYTES, _PATH_BYTES = 255, 4095
"""Linux has no longer names and paths."""

PATH_RULE = f"of names of at most {_NAME_BYTES} bytes, {_PATH_BYTES:,} in all"
"""What a local path must be."""


@dataclass(frozen=True)
class Place:
    """Where bytes are.

    Attributes:
        url: a local path, file://, or any fsspec protocol (gs://, s3://, memory://, …).
        options: of the file system, as fsspec takes them. They may hold secrets and are not shown.

    Raises:
        ValueError: a local path has options.
    """

    url: str
    options: StorageOptions = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", os.fspath(self.url))  # a Path is taken, too
        if not self.is_remote:
            check_length(self.url)
        if self.options and not self.is_remote:
            text = f"storage options have no effect on the local path {self.url}; leave out"
            raise ValueError(text)

    @classmethod
    def of(cls, place: "AnyPlace", options: StorageOptions = None) -> "Place":
        """The place itself, or one made of a URL or path and its options."""
        if isinstance(place, str | os.PathLike):
            return cls(os.fspath(place), options)
        if not isinstance(place, Place):
            raise ValueError(f"url must be a path, a URL or a Place, got {place!r:.80}")
        if options:
            raise ValueError(f"storage options of {place.url} must be given once, in the place")
        return place

    @property
    def is_remote(self) -> bool:
        """Whether the URL is not a local path."""
        protocol, separator, _ = self.url.partition("://")
        return bool(separator) and protocol != "file" and not re.search(r"\s", protocol)

    def beside(self, suffix: str) -> "Place":
        """The place whose name is this one's followed by `suffix`.

        Returns:
            `gs://bucket/run.parts` for `gs://bucket/run`, `gs://bucket/beside/parts` for
            `gs://bucket`; for a local place an absolute path. Characters like * have no meaning.
        """
        if not self.is_remote:
            path = self.url.removeprefix("file://")
            path = Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100
            inside = path / INSIDE / suffix.lstrip(".")
            return Place(str(path.with_name(path.name + suffix) if path.name else inside))
        protocol, _, rest = self.url.partition("://")
        name = rest.strip("/")
        if "/" in name:
            return replace(self, url=f"{protocol}://{rest.rstrip('/')}{suffix}")
        return replace(self, url=f"{protocol}://{name}/{INSIDE}/{suffix.lstrip('.')}")


def is_too_long(path: str) -> bool:
    """Whether no file system takes a local path."""
    names = [len(os.fsencode(name)) for name in path.split("/")]
    return max(names) > _NAME_BYTES or sum(names) + len(names) - 1 > _PATH_BYTES


def check_length(path: str) -> None:
    """Raises ValueError for a local path that is none, such as a text given for its file's name."""
    if is_too_long(path):
        raise ValueError(
            f"path must be {PATH_RULE}, got {short(repr(path))} "
            f"({len(path):,} characters); pass a path, a URL or a pattern, not a text"
        )


AnyPlace = str | os.PathLike[str] | Place
