"""Chooses the implementation of `Location` for a place."""

from pathlib import Path

from ...machine import nearest
from .local import LocalFiles
from .location import Location, StorageOptions
from .place import AnyPlace, Place


def locate(place: AnyPlace, storage_options: StorageOptions = None) -> Location:
    """The location that reads and writes at a place.

    Args:
        place: a place, or a URL or path.
        storage_options: of a URL, as fsspec takes them.

    Raises:
        ValueError: the protocol is unknown, or its driver is not installed.
        NotADirectoryError: a local path is a file, pipe or device, or leads through one.
    """
    place = Place.of(place, storage_options)
    if place.url.startswith("local://"):  # fsspec's own local files would follow links, open FIFOs
        raise ValueError(
            f"URL {place.url} must be a path, or begin with file://; leave out local://"
        )
    if not place.is_remote:
        files = LocalFiles(Path(place.url.removeprefix("file://")))
        there = nearest(files.root)
        if not there.is_dir():
            kind = "a file" if there.is_file() else "a pipe or device"
            raise NotADirectoryError(
                f"{files.url} must be a folder, got {there}, {kind}; choose another place"
            )
        return files
    from .remote import RemoteObjects  # fsspec and its drivers, only where they are needed

    return RemoteObjects(place.url, place.options)
