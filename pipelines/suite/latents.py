"""The table `[latents]`: which SAEs of a suite get an index, and its settings.

Owns the table's own key, `of`; its other keys are settings of `scopeworks latents index`. The step
decides where an index is kept.
"""

from pathlib import Path
from typing import Any, Literal

from ...evaluate.latents.index.settings import IndexSettings
from ...settings import Settings
from .members import SuiteMember
from .settings import Suite, SuiteFile


class LatentsSettings(Settings):
    """The keys of `[latents]` that are not settings of an index."""

    of: Literal["middle", "all"] = "middle"
    """Which SAEs get an index: for each site and width the middle one in the suite's order, or
    all."""


def are_wanted(suite: Suite) -> bool:
    """Whether a suite asks for indexes."""
    return suite.latents is not None


def indexed(file: SuiteFile, members: list[SuiteMember]) -> list[SuiteMember]:
    """The SAEs that get an index, in the suite's order.

    Raises:
        ValueError: naming file, table and key.
    """
    table = file.suite.latents
    if table is None:
        return []
    own = {name: value for name, value in table.items() if name in LatentsSettings.model_fields}
    if file.table(LatentsSettings, "[latents]", own).of == "all":
        return members
    groups: dict[tuple[Any, ...], list[SuiteMember]] = {}
    for member in members:
        groups.setdefault((*member.sites, member.values["width"]), []).append(member)
    return [group[(len(group) - 1) // 2] for group in groups.values()]


def index_settings(file: SuiteFile, **filled: Any) -> IndexSettings:
    """The settings of `latents index`, with what the suite fills in.

    Raises:
        ValueError: naming file, table and key.
    """
    table = file.suite.latents or {}
    values = {name: v for name, v in table.items() if name not in LatentsSettings.model_fields}
    defaults = {"device": file.suite.device}
    filled |= {"model": file.suite.model, "dask": file.suite.dask}
    return file.table(IndexSettings, "[latents]", defaults | values, **filled)


def check_latents(file: SuiteFile, members: list[SuiteMember]) -> None:
    """Checks the table before anything is run.

    Raises:
        ValueError: naming file, table and key.
    """
    if indexed(file, members):
        index_settings(file, sae="sae", store="store", tokens="tokens", out=Path("index"))
