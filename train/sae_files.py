"""Small file work that every format of an SAE shares: names, tensors' files, shape checks."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..store.files import write_file
from .sae_config import SAEConfig
from .tensor_file import file_parts

WEIGHTS_FILE = "sae.safetensors"
CONFIG_FILE = "config.json"


def write_safetensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Writes `tensors` as `write_file` does; equal tensors give equal bytes."""
    write_file(path, file_parts(tensors))


def check_tensors(tensors: dict[str, Tensor], config: SAEConfig) -> None:
    """Raises ValueError unless the tensors are those of an SAE of the config's shape."""
    check_shapes({name: tuple(tensor.shape) for name, tensor in tensors.items()}, config)
    for name, tensor in tensors.items():
        if not torch.is_floating_point(tensor):
            raise ValueError(f"{name} must be floating point, got {tensor.dtype}")


def check_shapes(found: Mapping[str, tuple[int, ...]], config: SAEConfig) -> None:
    """Raises ValueError unless these are the tensors' shapes of an SAE of the config's shape."""
    d_in, d_sae, d_out = config.d_in, config.d_sae, config.d_out
    shapes = {
        "W_enc": (d_in, d_sae),
        "b_enc": (d_sae,),
        "W_dec": (d_sae, d_out),
        "b_dec": (d_out,),
        "theta": (d_sae,),
        "W_skip": (d_in, d_out),
    }
    if unknown := sorted(set(found) - set(shapes)):
        raise ValueError(f"tensors must be {', '.join(shapes)}, got {', '.join(unknown)} as well")
    for name, shape in shapes.items():
        if name not in found:
            if name == "W_skip":
                continue
            raise ValueError(f"{name} must be among the SAE's tensors, got {sorted(found)}")
        if found[name] != shape:
            raise ValueError(
                f"{name} must have shape {shape}, got {found[name]}; "
                "the file does not fit its config"
            )
