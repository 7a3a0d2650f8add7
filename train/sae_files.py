"""Small file work that every format of an SAE shares: names, atomic writes, shape checks."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..store.location import LocalFiles
from .sae_config import SAEConfig
from .tensor_file import file_parts

WEIGHTS_FILE = "sae.safetensors"
CONFIG_FILE = "config.json"


def replace_file(path: Path, data: bytes) -> None:
    """Writes aside, then renames over, so that readers see the old file or the new one and nothing
    between.
    """
    LocalFiles(path.parent).write(path.name, [data])


def write_json(path: Path, value: Any) -> None:
    """Atomically writes indented JSON; NaN and infinities are refused, they are not JSON."""
    replace_file(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def write_safetensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Atomically writes `tensors`; equal tensors give equal bytes."""
    LocalFiles(path.parent).write(path.name, file_parts(tensors))


def check_tensors(tensors: dict[str, Tensor], config: SAEConfig) -> None:
    """Raises ValueError unless the tensors are those of an SAE of the config's shape."""
    d_in, d_sae, d_out = config.d_in, config.d_sae, config.d_out
    shapes = {
        "W_enc": (d_in, d_sae),
        "b_enc": (d_sae,),
        "W_dec": (d_sae, d_out),
        "b_dec": (d_out,),
        "theta": (d_sae,),
        "W_skip": (d_in, d_out),
    }
    for name, shape in shapes.items():
        if name not in tensors:
            if name == "W_skip":
                continue
            raise ValueError(f"{name} must be among the SAE's tensors, got {sorted(tensors)}")
        if tuple(tensors[name].shape) != shape:
            raise ValueError(
                f"{name} must have shape {shape}, got {tuple(tensors[name].shape)}; "
                "the file does not fit its config"
            )
        if not torch.is_floating_point(tensors[name]):
            raise ValueError(f"{name} must be floating point, got {tensors[name].dtype}")
