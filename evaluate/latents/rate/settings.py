"""Settings of `scopeworks latents rate`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from ....settings import Settings
from ....store.place.files import local_path
from .answers import check_rater


class RateSettings(Settings):
    """The indexes that one rater rates, and where the answers go."""

    index: tuple[Path, ...] = ()
    """Folders that `latents index` made, one for each SAE."""
    out: Path
    """Folder of the ratings; each rater has one file in it."""
    rater: str
    """The rater's name; also the name of the rater's file."""
    n: PositiveInt = 50
    """Latents of each SAE, drawn evenly over firing frequency; all that fire, if fewer do."""
    seed: NonNegativeInt = 0
    """Seed of the draw and of the raters' orders."""
    port: int | None = Field(default=None, ge=0, le=65535)
    """Port on 127.0.0.1; by default 8780, or any free port if that is taken."""

    _local = field_validator("out")(local_path)
    _named = field_validator("rater")(check_rater)

    @model_validator(mode="before")
    @classmethod
    def _has_indexes(cls, values: Any) -> Any:
        """Checked before the other fields, so that a command without indexes is told of --table."""
        if isinstance(values, Mapping) and not values.get("index"):
            raise ValueError(
                "index must be given: a folder that `scopeworks latents index` made, or several; "
                "or --table for what has been rated"
            )
        return values
