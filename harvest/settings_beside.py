"""The record beside an output: the resolved settings of the command that made it."""

from ..settings import dump
from ..store.place.beside import write_beside
from ..store.place.options import options_for
from .settings import StageSettings


def write_settings(url: str, stage: str, settings: StageSettings) -> None:
    """Writes the resolved settings as JSON (`<url>.<stage>.json`) beside an output that exists.

    Storage options, which may hold secrets, are left out.

    Raises:
        OSError: the place cannot be written.
    """
    options = options_for(url, settings.storage_options)
    write_beside(url, f".{stage}.json", dump(settings).encode(), options)
