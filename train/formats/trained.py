"""This project's own folder: config.json and sae.safetensors, as `train` leaves it."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ...foreign import Document
from ..sae_config import SAEConfig
from ..sae_files import CONFIG_FILE, WEIGHTS_FILE
from .reading import Tensors, read_config, read_safetensors

MARKS = (CONFIG_FILE, WEIGHTS_FILE)


class _Record(Document):
    """config.json: the SAE's record once there is one, and the run's settings."""

    sae: dict[str, Any] | None = None
    settings: dict[str, Any] | None = None


def trained_config(folder: Path) -> SAEConfig | None:
    """What a training run wrote about its SAE; None while it has not finished."""
    record = read_config(_Record, folder / CONFIG_FILE)
    if record.settings is not None and record.sae is None:
        return None
    try:
        return SAEConfig.model_validate(record.sae)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "sae"
        raise ValueError(
            f"{folder / CONFIG_FILE} is not a trained SAE's: {name}: {first['msg']}"
        ) from error


def read(folder: Path) -> tuple[SAEConfig, Tensors]:
    """Reads the folder; the SAE must be finished."""
    config = trained_config(folder)
    if config is None or not (folder / WEIGHTS_FILE).is_file():
        raise FileNotFoundError(
            f"{folder} holds no finished SAE: its training has not ended; repeat the train command "
            "to continue it"
        )
    return config, read_safetensors(folder / WEIGHTS_FILE)
