"""Storage options in settings: one set for all URLs of a command. And what a cache keeps."""

from typing import Any

from pydantic import Field

from ...settings import Settings
from .place import Place

CACHE_BYTES = 64 * 2**30
"""Default bound on a local cache of remote stores."""


class StorageSettings(Settings):
    """Base of settings that name places."""

    storage_options: dict[str, Any] | None = Field(default=None, exclude=True, repr=False)
    """Options of the file systems of all URLs, as fsspec takes them. They may hold secrets and are
    never written to a file: give them again to continue."""

    def place(self, url: str) -> Place:
        """The place of one of the settings' URLs; local paths have no options."""
        return Place(url, self.storage_options if Place(url).is_remote else None)
