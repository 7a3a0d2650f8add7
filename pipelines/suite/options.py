"""Options that all commands on a suite share: the suite's file and changes of it."""

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from ...settings import Settings

if TYPE_CHECKING:
    from .settings import SuiteFile


class Changes(Settings):
    """Changes of a suite's file."""

    changes: list[str] = Field(default_factory=list, alias="set")
    """table.key=value, instead of the file's value."""


class SuiteOptions(Changes):
    """A suite on a command line."""

    suite: Path | None
    """Suite file (TOML), or the name of a preset."""

    @property
    def file(self) -> "SuiteFile":
        """The suite's file, read with its changes; raises what `SuiteFile` raises."""
        from .settings import SuiteFile

        if self.suite is None:
            raise ValueError("suite must be given: a file (TOML), or the name of a preset")
        return SuiteFile(self.suite, self.changes, getattr(self, "storage_options", None))
