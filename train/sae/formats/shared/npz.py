"""Reads npz files, and checks their headers before an array is decompressed.

Owns the bounds. Names, shapes and sizes are in the zip's directory and at the beginning of each
array, so they are known before the arrays are decompressed. numpy alone would decompress first.
"""

import math
import zipfile
from pathlib import Path

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from .....foreign import one_line
from .reading import TensorsFile

_MAX_ARRAYS = 16
_MAX_INFLATION = 20  # times the bytes in the file; trained weights hardly compress
_SMALL_BYTES = 1 << 26  # up to here an array may compress as well as it likes


def open_npz(path: Path) -> TensorsFile:
    """The arrays of an npz as float32 tensors.

    Raises:
        ValueError: it is damaged, holds pickles or other types than float16, float32 and float64,
            or would inflate to something that no weights are.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            shapes = _shapes(archive)
    # zipfile and numpy raise many kinds of errors for a damaged file (NotImplementedError,
    # struct.error, tokenize.TokenError, zlib.error, …).
    except Exception as error:
        raise ValueError(
            f"{path} must be a readable npz without pickles: {one_line(error)}"
        ) from error
    return TensorsFile(path, shapes, lambda: _load(path))


def _shapes(archive: zipfile.ZipFile) -> dict[str, Tensor]:
    """Stand-ins for the arrays."""
    members = archive.infolist()
    if len(members) > _MAX_ARRAYS:
        raise ValueError(f"an SAE has at most {_MAX_ARRAYS} arrays, got {len(members)}")
    found = {}
    for member in members:
        name = member.filename.removesuffix(".npy")
        if name in found:
            raise ValueError(f"{name[:60]} is there twice")
        found[name] = _shape(archive, member, name[:60])
    return found


def _shape(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> Tensor:
    """One array's stand-in; its header, its size in the directory and its bytes must agree."""
    with archive.open(member) as file:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file)
        n_header = file.tell()
    if dtype.hasobject:
        raise ValueError(f"{name} is pickled")
    if dtype.kind == "V":
        raise ValueError(
            f"{name} has no type that numpy knows ({dtype.str}), which is what it makes of "
            "bfloat16; save it as float32"
        )
    if dtype.kind != "f" or dtype.itemsize > 8:
        raise ValueError(f"{name} must be float16, float32 or float64, got {dtype}")
    if n_header + math.prod(shape) * dtype.itemsize != member.file_size:
        raise ValueError(
            f"{name} of shape {shape} and type {dtype} must not take {member.file_size:,} bytes"
        )
    if member.file_size > max(_SMALL_BYTES, _MAX_INFLATION * member.compress_size):
        raise ValueError(
            f"{name} would inflate from {member.compress_size:,} to {member.file_size:,} bytes, "
            "which no trained weights do"
        )
    return torch.empty(shape, dtype=torch.float32, device="meta")


def _load(path: Path) -> dict[str, Tensor]:
    """The arrays, float32."""
    try:
        with np.load(path, allow_pickle=False) as data:
            return {name: torch.from_numpy(data[name].astype(np.float32)) for name in data.files}
    except Exception as error:  # as above
        raise ValueError(
            f"{path} must be a readable npz without pickles: {one_line(error)}"
        ) from error
