"""Small file work that every format of an SAE shares: names, atomic writes, shape checks."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from .sae_config import SAEConfig

WEIGHTS_FILE = "sae.safetensors"
CONFIG_FILE = "config.json"


def replace_file(path: Path, data: bytes) -> None:
    """Writes aside, then renames over, so that readers see the old file or the new one and nothing
    between.
    """
    aside = path.with_name(path.name + ".partial")
    aside.write_bytes(data)
    aside.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Atomically writes indented JSON; NaN and infinities are refused, they are not JSON."""
    replace_file(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def write_safetensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Atomically writes contiguous CPU copies of `tensors`; equal tensors give equal bytes."""
    replace_file(path, save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}))


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
