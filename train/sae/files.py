"""What every format of an SAE shares: the tensors' names and checks, and the writing of files."""

import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...arguments import path_of
from ...store.place.files import leftovers, local_path, write_file, write_folder
from .config import SAEConfig
from .tensor_file import Blocks, file_parts

NAMES = ("W_enc", "b_enc", "W_dec", "b_dec", "theta", "W_skip")
"""The names of an SAE's tensors; only a skip transcoder has W_skip."""

_CHECKED_VALUES = 1 << 24  # numbers checked at once, so that the check takes little memory


def write_safetensors(path: Path, tensors: Mapping[str, Tensor | Blocks]) -> None:
    """Writes `tensors` as `write_file` does; equal tensors give equal bytes."""
    write_file(path, file_parts(tensors))


def write_format(folder: Path, files: dict[str, Any]) -> None:
    """Writes the files of a format in their order, the last one once all others are on the disk.

    Raises:
        OSError: naming the file that cannot be written.
    """
    *_, last = files
    write_folder(folder, {name: files[name] for name in files if name != last}, (last, files[last]))


def local_folder(name: str, value: str | Path) -> Path:
    """A folder that an argument names; ValueError for a URL or what is no path."""
    folder = path_of(name, value)
    try:
        return local_path(folder)
    except ValueError as error:
        raise ValueError(f"{name} {error}, got {value}") from error


def check_own(name: str, folder: Path, files: Iterable[str], what: str) -> None:
    """Refuses a folder with other files in it, which are not ours to write beside.

    Args:
        name: the argument's name.
        folder: need not exist.
        files: names of files that may be there.
        what: what has such files, for the error.

    Raises:
        ValueError: there are others, or it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{name} must be a folder, got the file {folder}")
    present = set(folder.iterdir()) - set(leftovers(folder)) if folder.is_dir() else set()
    if others := sorted({path.name for path in present} - set(files)):
        raise ValueError(
            f"{name} must be empty or hold {what}, got {folder} with {', '.join(others[:5])}; pass "
            "another folder"
        )


def check_tensors(tensors: dict[str, Tensor], config: SAEConfig, where: str = "") -> None:
    """Raises ValueError unless the tensors are those of an SAE of the config's shape.

    Args:
        tensors: by name; they may be without memory (`meta` device).
        config: has the shapes that they must have.
        where: the file that they are from, for errors.
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
        if name in tensors and not isinstance(tensors[name], Tensor):
            got = type(tensors[name]).__name__
            raise ValueError(f"{prefix}{name} must be a tensor, got {got}; torch.tensor makes one")
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
    """Raises ValueError if a tensor holds NaN or infinity."""
    for name, tensor in tensors.items():
        n_rows = max(1, _CHECKED_VALUES // max(1, tensor[:1].numel()))
        bad = sum(int((~torch.isfinite(rows)).sum()) for rows in tensor.split(n_rows))
        if bad:
            raise ValueError(
                f"{where}: {name} must be finite, got {bad:,} of {tensor.numel():,} values that "
                "are NaN or infinite; such an SAE is neither read nor written"
            )


def checksum(tensors: Mapping[str, Tensor]) -> int:
    """CRC-32 of names, dtypes and values, wherever the tensors are: tells whether they changed."""
    found = 0
    for name, tensor in sorted(tensors.items()):
        found = zlib.crc32(f"{name} {tensor.dtype}".encode(), found)
        values = tensor.detach().cpu().contiguous().view(torch.uint8).numpy()
        found = zlib.crc32(values.data, found)
    return found
