"""Which implementation of `Location` a URL has."""

import os
from pathlib import Path

from .local import LocalFiles
from .location import Location, StorageOptions


def locate(url: str | os.PathLike[str], storage_options: StorageOptions = None) -> Location:
    """The location of a URL: a local path, file://, or any fsspec protocol (gs://, s3://,
    memory://, …).

    Raises:
        ValueError: the protocol is unknown, or its driver is not installed.
    """
    text = os.fspath(url)
    protocol, separator, rest = text.partition("://")
    if protocol == "local" and separator:  # fsspec would open FIFOs and follow links
        raise ValueError(f"URL {text} must be a path, or begin with file://; leave out local://")
    if not separator or protocol == "file":
        if storage_options:
            raise ValueError(f"storage options have no effect on the local path {text}; leave out")
        return LocalFiles(Path(rest if separator else text))
    from .remote import RemoteObjects  # fsspec and its drivers, only where they are needed

    return RemoteObjects(text, storage_options)
