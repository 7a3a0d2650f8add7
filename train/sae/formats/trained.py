"""This project's own folder: `config.json` and `sae.safetensors`."""

import json
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from ....foreign import Document, validated
from ....settings import dump
from ....store.place.files import json_bytes
from ..config import SAEConfig
from ..files import check_own
from ..tensor_file import file_parts
from . import gemma_scope_2
from .shared.reading import Tensors, agreed, complete, open_safetensors, read_document, renamed

CONFIG_FILE, WEIGHTS_FILE = "config.json", "sae.safetensors"


class _Exact(SAEConfig):
    """The SAE's record, with JSON's own types."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Record(Document):
    sae: dict[str, Any] | None = None
    settings: dict[str, Any] | None = None
    architecture: Any = None
    """Gemma Scope 2's config.json has one, ours has none."""


def trained_config(folder: Path) -> SAEConfig | None:
    """What a training run wrote about its SAE; None until it has finished.

    Raises:
        FileNotFoundError, ValueError: there is no such record, or it is damaged; one line.
    """
    return _parsed(folder)[0]


def trained_settings(folder: Path) -> dict[str, Any]:
    """The settings of the training run; {} if this is not a trained folder."""
    if not all((folder / name).is_file() for name in (CONFIG_FILE, WEIGHTS_FILE)):
        return {}
    return _parsed(folder)[1]


def read(folder: Path) -> tuple[SAEConfig, Tensors]:
    """Config and tensors; see `read_sae`."""
    config, settings = _parsed(folder)
    if config is None or not (folder / WEIGHTS_FILE).is_file():
        raise FileNotFoundError(
            f"{folder} holds no finished SAE: its training has not ended; repeat the train command "
            "to continue it"
        )
    file = renamed(open_safetensors(folder / WEIGHTS_FILE), {})
    where = str(folder / CONFIG_FILE)
    skip = settings.get("skip")
    if isinstance(skip, bool):
        agreed(where, "skip", skip, "W_skip" in file.shapes)
    return complete(file, config, where)


def check_folder(name: str, folder: Path) -> None:
    """Refuses a folder that is neither empty nor an earlier SAE's own. A training run could not be
    continued in it once another SAE is there.

    Args:
        name: the argument's name.
        folder: need not exist.

    Raises:
        ValueError: the folder holds something else.
    """
    # A run that has begun has other files too, such as metrics.jsonl.
    check_own(name, folder, (CONFIG_FILE, WEIGHTS_FILE), "an SAE that save wrote")
    if not (folder / CONFIG_FILE).exists():
        return
    try:
        sae, _ = _parsed(folder)
    except (OSError, ValueError) as error:
        raise ValueError(f"{name} must be empty or hold an SAE: {error}; pass another") from error
    if sae is None:
        raise ValueError(
            f"{name} must be empty or hold an SAE that save wrote, got {folder}, which is a "
            "training run's; pass another folder"
        )


def files(
    config: SAEConfig, tensors: Tensors, settings: dict[str, Any] | None = None
) -> tuple[str, dict[str, Any]]:
    """The folder's name, "", and its files in the order in which they are written.

    Args:
        config: the SAE's.
        tensors: likewise.
        settings: the training run's, kept beside the SAE's own.
    """
    record = json_bytes({"sae": json.loads(dump(config)), "settings": settings})
    return "", {WEIGHTS_FILE: file_parts(tensors), CONFIG_FILE: [record]}


def _parsed(folder: Path) -> tuple[SAEConfig | None, dict[str, Any]]:
    """The SAE's record, if it is there yet, and the run's settings."""
    path = folder / CONFIG_FILE
    record = read_document(_Record, path)
    settings = record.settings or {}
    if record.sae is None and record.settings is not None:
        return None, settings
    if record.sae is None and record.architecture is not None:
        raise FileNotFoundError(
            f"{folder / gemma_scope_2.WEIGHTS_FILE} does not exist; the SAE's folder is not "
            "complete"
        )
    if record.sae is None:
        raise ValueError(f"{path} is not a trained SAE's: sae is missing")
    exact = validated(_Exact, record.sae, f"{path}, sae,")
    return SAEConfig.model_validate(exact.model_dump()), settings
