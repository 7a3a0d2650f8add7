"""Whole runs: the command line, the demo, and the tiny model that it runs on."""

from typing import TYPE_CHECKING

from ..public_names import public_names

if TYPE_CHECKING:
    from .release.folder import write_release as write_release
    from .release.sums import check_release as check_release
    from .suite.settings import SuiteFile as SuiteFile
else:
    __getattr__, __dir__, __all__ = public_names(
        __name__,
        {
            "SuiteFile": "suite.settings",
            "check_release": "release.sums",
            "write_release": "release.folder",
        },
    )
