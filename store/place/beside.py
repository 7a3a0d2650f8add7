"""Beside an output: where the files lie that belong to a store without being part of it.

Owns their names (`<out>.tokenize.json`, `<out>.parts`, …) and the writing of a single one. A
bucket's root has nothing beside it: there they are in a folder inside, which stores leave alone.
"""

import os
from pathlib import Path

from .locate import locate
from .location import StorageOptions
from .options import is_remote

INSIDE = "beside"
"""Folder at a place's root for what would otherwise lie beside it."""


def beside(url: str | os.PathLike[str], suffix: str) -> str:
    """The place whose name is that of `url` with `suffix` behind it.

    Args:
        url: a local path or a URL; a name, never a pattern.
        suffix: as `.parts`.

    Returns:
        `gs://bucket/run.parts` for `gs://bucket/run`, `gs://bucket/beside/parts` for `gs://bucket`;
        an absolute path for a local one.
    """
    text = os.fspath(url)
    if not is_remote(text):
        path = Path(os.path.abspath(Path(text.removeprefix("file://")).expanduser()))  # noqa: PTH100
        inside = path / INSIDE / suffix.lstrip(".")
        return str(path.with_name(path.name + suffix) if path.name else inside)
    protocol, _, rest = text.partition("://")
    name = rest.strip("/")
    if "/" in name:
        return f"{protocol}://{rest.rstrip('/')}{suffix}"
    return f"{protocol}://{name}/{INSIDE}/{suffix.lstrip('.')}"


def write_beside(
    url: str | os.PathLike[str], suffix: str, data: bytes, storage_options: StorageOptions = None
) -> None:
    """Writes the file beside `url`: aside and renamed on a local disk, by a single put elsewhere.

    Raises:
        OSError: the place cannot be written.
    """
    folder, _, name = beside(url, suffix).rpartition("/")
    place = locate(folder or "/", storage_options)
    place.sweep([name])
    place.replace(name, data)
