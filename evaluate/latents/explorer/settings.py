"""Settings of `scopeworks latents serve`."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from ....settings import Settings


class ServeSettings(Settings):
    """The indexes that a browser shows, and the model that the playground runs."""

    index: tuple[Path, ...] = Field(min_length=1)
    """Folders that `scopeworks latents index` wrote; several are served together."""
    host: str = "127.0.0.1"
    """Address to listen at. Anyone who can reach it can read the indexes and run the `model`."""
    port: int = Field(default=8000, ge=0, lt=2**16)
    """Port to listen at; 0 takes any free port."""

    model: str | None = None
    """Language model of the playground: a folder or a hub id. By default there is no playground."""
    sae: tuple[str, ...] = ()
    """SAEs of the playground, one for each index; by default those that the indexes name."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Precision of the language model; auto chooses by the device."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N; auto takes CUDA where there is one."""

    @model_validator(mode="after")
    def _check_saes(self) -> "ServeSettings":
        if self.sae and self.model is None:
            raise ValueError("sae must be given with model: only the playground reads it")
        if self.sae and len(self.sae) != len(self.index):
            raise ValueError(
                f"sae must be given once for each of the {len(self.index)} indexes, "
                f"got {len(self.sae)}"
            )
        return self
