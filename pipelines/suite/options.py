"""What commands on a suite take: its file, changes of it, and options of its places."""

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from ...settings import Settings

if TYPE_CHECKING:
    from .settings import SuiteFile


class Changes(Settings):
    """What is changed of a suite's file."""

    changes: list[str] = Field(default_factory=list, alias="set")
    """table.key=value over the file's."""


class SuiteOptions(Changes):
    """A suite on a command line."""

    suite: Path | None
    """Suite file (TOML), or the name of a preset."""

    @property
    def file(self) -> "SuiteFile":
        """The suite's file, read with its changes; errors as `SuiteFile`."""
        from .settings import SuiteFile

        if self.suite is None:
            raise ValueError("suite must be given: a file (TOML), or the name of a preset")
        return SuiteFile(self.suite, self.changes, getattr(self, "storage_options", None))
