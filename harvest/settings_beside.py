"""The record beside an output: the resolved settings of the command that made it."""

from ..settings import dump
from ..store.place.locate import locate
from ..store.place.options import StorageSettings
from ..store.place.place import Place


def write_settings(out: Place, stage: str, settings: StorageSettings) -> None:
    """Writes the resolved settings as JSON to `<out>.<stage>.json`, beside an output that exists.

    An older file is replaced atomically. Storage options, which may hold secrets, are left out.

    Raises:
        OSError: the place cannot be written.
    """
    folder, _, name = out.beside(f".{stage}.json").url.rpartition("/")
    location = locate(folder or "/", out.options)
    location.sweep([name])
    location.replace(name, dump(settings).encode())
