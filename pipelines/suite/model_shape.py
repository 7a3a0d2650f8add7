"""A model's configuration by its name: the one its family knows, or the one in its config.json.

With it a suite of a gated model can be checked, planned and rendered on a machine that has not
downloaded the model. A run does not use it for results: it reads the model itself.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

from ...harvest.model.families import FAMILIES


@lru_cache(maxsize=8)
def model_config(model: str) -> Any:
    """transformers' configuration of a model.

    Raises:
        OSError, ValueError: no such model is known, here or on the hub.
    """
    for family in FAMILIES:
        if (shape := family.shape_of(model)) is not None:
            kind, _ = family.classes()
            return kind(**shape)
    from ...harvest.model.config import read_config
    from ...harvest.model.files import model_folder

    return read_config(model_folder(model), model)


def check_model(model: str, where: str) -> None:
    """Refuses a model that is neither a folder nor a hub id; does not ask the hub for it.

    Raises:
        ValueError: naming `where`, the model and what it must be.
    """
    from ...harvest.model.files import check_name

    try:
        if Path(model).is_dir():
            model_config(model)
        else:
            check_name(model)
    except (ValueError, OSError) as error:
        raise ValueError(f"{where}: {error}") from error
