"""A model's configuration by its name: the built-in one of Gemma 2's sizes, else its config.json.

So a suite of a gated model can be looked at, planned and rendered on a machine that has not
downloaded it. A run compares nothing with these: it reads the model itself.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

_GEMMA_2 = {
    "google/gemma-2-2b": (26, 2304, 9216, 8, 4, 256),
    "google/gemma-2-9b": (42, 3584, 14336, 16, 8, 256),
    "google/gemma-2-27b": (46, 4608, 36864, 32, 16, 128),
}
"""Layers, d_model, width of the MLP, heads, key-value heads, width of a head (Gemma 2 report,
Table 1); the vocabulary is 256,000."""


@lru_cache(maxsize=8)
def model_config(model: str) -> Any:
    """transformers' configuration of a model.

    Raises:
        OSError, ValueError: no such model is known, here or on the hub.
    """
    sizes = _GEMMA_2.get(model.removesuffix("-it"))
    if sizes is None:
        from ...harvest.model.config import read_config
        from ...harvest.model.files import model_folder

        return read_config(model_folder(model), model)
    from transformers import Gemma2Config

    layers, d_model, mlp, heads, kv_heads, head = sizes
    return Gemma2Config(
        vocab_size=256_000,
        num_hidden_layers=layers,
        hidden_size=d_model,
        intermediate_size=mlp,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head,
    )


def check_model(model: str, where: str) -> None:
    """Refuses a model that is in no folder; whether the hub has one, a step will see.

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
