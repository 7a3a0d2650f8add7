"""What `scopeworks latents rate` is asked to do."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from ....settings import Settings
from ....store.place.files import local_path
from .answers import check_rater


class RateSettings(Settings):
    """One rater at one page."""

    index: tuple[Path, ...] = ()
    """Folders that `latents index` made, one for each SAE."""
    out: Path
    """Folder of the ratings; each rater has a file in it."""
    rater: str
    """Who rates; the name of the rater's file."""
    n: PositiveInt = 50
    """Latents of each SAE, drawn evenly over firing frequency; where fewer fire, all that do."""
    seed: NonNegativeInt = 0
    """Seed of the draw and of the orders."""
    port: int | None = Field(default=None, ge=0, le=65535)
    """Port on 127.0.0.1; by default 8780, or one that is free."""

    _local = field_validator("out")(local_path)
    _named = field_validator("rater")(check_rater)

    @model_validator(mode="before")
    @classmethod
    def _has_indexes(cls, values: Any) -> Any:
        """Asked first: without indexes the others need not be given either, see --table."""
        if isinstance(values, Mapping) and not values.get("index"):
            raise ValueError(
                "index must be given: a folder that `scopeworks latents index` made, or several; "
                "or --table for what has been rated"
            )
        return values
