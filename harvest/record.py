"""The record beside an output: the resolved settings of the command that made it."""

from ..settings import dump
from ..store.options import options_for
from .settings import StageSettings


def settings_url(url: str, stage: str) -> str:
    """Where the settings of the stage that writes `url` are kept: beside it, not in it."""
    return f"{url.rstrip('/')}.{stage}.json"


def write_settings(url: str, stage: str, settings: StageSettings) -> None:
    """Writes the resolved settings as JSON beside a local or remote output that exists.

    Storage options, which may hold secrets, are left out.

    Raises:
        OSError: the place cannot be written.
    """
    import fsspec

    target, options = settings_url(url, stage), options_for(url, settings.storage_options) or {}
    with fsspec.open(target, "w", encoding="utf-8", **options) as file:
        file.write(dump(settings))  # pyright: ignore[reportAttributeAccessIssue]
