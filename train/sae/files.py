"""What every format of an SAE shares: the names of files and tensors, and the tensors' checks."""

from pathlib import Path

import torch
from torch import Tensor

from ...store.place.files import write_file
from .config import SAEConfig
from .tensor_file import file_parts

WEIGHTS_FILE = "sae.safetensors"
CONFIG_FILE = "config.json"
NAMES = ("W_enc", "b_enc", "W_dec", "b_dec", "theta", "W_skip")
"""Of an SAE's tensors; only a skip transcoder has the last."""

_CHECKED_VALUES = 1 << 24  # at once, so that the check takes no memory to speak of


def write_safetensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Writes `tensors` as `write_file` does; equal tensors give equal bytes."""
    write_file(path, file_parts(tensors))


def check_tensors(tensors: dict[str, Tensor], config: SAEConfig, where: str = "") -> None:
    """Raises ValueError unless the tensors are those of an SAE of the config's shape.

    Args:
        tensors: by name; stand-ins without memory do.
        config: says what they must be.
        where: the file they are from, for errors.
    """
    d_in, d_sae, d_out = config.d_in, config.d_sae, config.d_out
    shapes = {
        "W_enc": (d_in, d_sae),
        "b_enc": (d_sae,),
        "W_dec": (d_sae, d_out),
        "b_dec": (d_out,),
        "theta": (d_sae,),
        "W_skip": (d_in, d_out),
    }
    prefix = f"{where}: " if where else ""
    if unknown := sorted(set(tensors) - set(shapes)):
        shown = ", ".join(unknown[:5])
        raise ValueError(f"{prefix}tensors must be {', '.join(shapes)}, got {shown} as well")
    for name, shape in shapes.items():
        if name not in tensors:
            if name == "W_skip":
                continue
            raise ValueError(
                f"{prefix}{name} must be among the SAE's tensors, got {sorted(tensors)}"
            )
        tensor, got = tensors[name], tuple(tensors[name].shape)
        if got != shape:
            hint = "it is transposed" if got == shape[::-1] else "the file does not fit its config"
            raise ValueError(f"{prefix}{name} must have shape {shape}, got {got}; {hint}")
        if not torch.is_floating_point(tensor):
            raise ValueError(f"{prefix}{name} must be floating point, got {tensor.dtype}")


def check_values(tensors: dict[str, Tensor], where: str) -> None:
    """Raises ValueError for numbers that are none: whatever reads them fails later, or never."""
    for name, tensor in tensors.items():
        n_rows = max(1, _CHECKED_VALUES // max(1, tensor[:1].numel()))
        bad = sum(int((~torch.isfinite(rows)).sum()) for rows in tensor.split(n_rows))
        if bad:
            raise ValueError(
                f"{where}: {name} must be finite, got {bad:,} of {tensor.numel():,} values that "
                "are NaN or infinite; such an SAE is neither read nor written"
            )
