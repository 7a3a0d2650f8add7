"""The record beside an output: the resolved settings of the command that made it."""

from ..settings import Settings, dump


def settings_url(url: str, stage: str) -> str:
    """Where the settings of the stage that writes `url` are kept: beside it, not in it."""
    return f"{url.rstrip('/')}.{stage}.json"


def write_settings(url: str, stage: str, settings: Settings) -> None:
    """Writes the resolved settings as JSON beside a local or remote output that exists.

    Raises:
        OSError: the place cannot be written.
    """
    import fsspec

    with fsspec.open(settings_url(url, stage), "w", encoding="utf-8") as file:
        file.write(dump(settings))  # pyright: ignore[reportAttributeAccessIssue]
