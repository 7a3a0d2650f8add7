"""What `scopeworks latents serve` is asked to do."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from ....settings import Settings


class ServeSettings(Settings):
    """Indexes to be looked at in a browser, and the model that the playground runs."""

    index: tuple[Path, ...] = Field(min_length=1)
    """Folders that `scopeworks latents index` wrote; several are served beside one another."""
    host: str = "127.0.0.1"
    """Address to listen at; whoever reaches it reads the indexes and, with `model`, runs it."""
    port: int = Field(default=8000, ge=0, lt=2**16)
    """Port to listen at; 0 takes one that is free."""

    model: str | None = None
    """Language model of the playground: a folder or a hub id. By default there is none."""
    sae: tuple[str, ...] = ()
    """SAEs of the playground, one an index; by default those that the indexes' manifests name."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Precision of the language model; auto is what suits the device."""
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
