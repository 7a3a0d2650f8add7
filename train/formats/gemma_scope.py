"""Gemma Scope's release: params.npz, float32, under path names that tell site, width and L0.

layer_20/width_16k/average_l0_71/params.npz
W_enc [n, M], W_dec [M, n], b_enc [M], b_dec [n], threshold [M];  f = JumpReLU(x @ W_enc + b_enc)
"""

import io
import math
import re
import zipfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import torch

from ...foreign import one_line
from ...store.files import write_file
from ..sae_config import SAEConfig
from .hook_names import width_name
from .reading import Tensors, config_from_shapes, renamed
from .writing import check_folder, layer_of

if TYPE_CHECKING:
    from ..sae import SAE

PARAMS_FILE = "params.npz"
MARKS = (PARAMS_FILE,)
# Some of the released transcoders spell their weights w_enc and w_dec.
_NAMES = {"threshold": "theta", "w_enc": "W_enc", "w_dec": "W_dec"}
_MAX_RATIO = 8
"""Arrays may take this many times the file's bytes: weights hardly compress at all, and a file of a
few MB must not fill the memory."""
_SMALL_BYTES = 2**24


def read(folder: Path) -> tuple[SAEConfig, Tensors]:
    """Reads folder/params.npz."""
    return read_file(folder / PARAMS_FILE)


def read_file(path: Path) -> tuple[SAEConfig, Tensors]:
    """Reads an npz; site and L0 as far as its path tells them."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check_sizes(archive, path)
            arrays = {info.filename: _array(archive, info, path) for info in archive.infolist()}
    except (OSError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        text = one_line(error)
        raise ValueError(f"{path} must be a readable npz without pickles: {text}") from error
    tensors = {
        name.removesuffix(".npy"): torch.from_numpy(array.astype(np.float32))
        for name, array in arrays.items()
    }
    factor = tensors.pop("scaling_factor", None)
    if factor is not None and not bool((factor == 1).all()):
        raise ValueError(
            f"{path}: scaling_factor must be all ones, got other numbers, whose meaning differs "
            "between projects; fold it into the weights first"
        )
    tensors = renamed(tensors, _NAMES, path)
    config = config_from_shapes(tensors, path, **_facts_in_path(path))
    width = re.search(r"/width_(\d+[km]?)/", path.absolute().as_posix())
    if width and width[1] not in (width_name(config.d_sae), str(config.d_sae)):
        raise ValueError(
            f"{path} must hold the width its folder says, {width[1]}, got {config.d_sae} latents"
        )
    return config, tensors


def write(sae: "SAE", out: Path) -> Path:
    """layer_L/width_16k/average_l0_71/params.npz, the L0 being the measured one."""
    if sae.W_skip is not None:
        raise ValueError(
            "format gemma-scope has no place for the skip connection; export as sae-lens, or as "
            "gemma-scope-2 with --model"
        )
    layer, l0 = layer_of(sae), sae.config.l0
    if l0 is None:
        raise ValueError(
            "l0 must be known for the release's path names; pass --l0, or the --evaluation file "
            "that measured it"
        )
    folder = out / f"layer_{layer}/width_{width_name(sae.config.d_sae)}/average_l0_{round(l0)}"
    check_folder(folder, MARKS, sae)
    arrays = {
        {"theta": "threshold"}.get(name, name): np.ascontiguousarray(t.float().cpu().numpy())
        for name, t in sae.tensors().items()
    }
    data = io.BytesIO()
    np.savez(data, allow_pickle=False, **arrays)
    write_file(folder / PARAMS_FILE, data.getvalue())
    return folder


def _check_sizes(archive: zipfile.ZipFile, path: Path) -> None:
    """Before anything is inflated: the directory says how much it will be."""
    inflated, size = sum(info.file_size for info in archive.infolist()), path.stat().st_size
    if inflated > max(_SMALL_BYTES, _MAX_RATIO * size):
        raise ValueError(
            f"{path} must hold weights, which hardly compress, got {inflated:,} bytes in a file of "
            f"{size:,}; it is not an SAE's"
        )
    names = [info.filename for info in archive.infolist()]
    if len(set(names)) < len(names) or len(names) > 16:
        raise ValueError(f"{path} must hold a handful of arrays, each once, got {len(names)}")


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> np.ndarray:
    """One array, its header checked against its bytes before they are read."""
    with archive.open(info) as file:
        try:
            shape, fortran, dtype = _header(file)
            n_bytes = math.prod(shape) * dtype.itemsize
            if dtype.hasobject:
                raise ValueError("objects need pickle")
            if dtype.kind == "V" and dtype.itemsize == 2:
                raise ValueError("bfloat16 has no name in npz; save it as float32")
            if dtype.kind != "f" or dtype.itemsize > 8:
                raise ValueError(f"its dtype must be float16, float32 or float64, got {dtype}")
            if n_bytes != info.file_size - file.tell():
                raise ValueError(f"shape {list(shape)} of {dtype} must take {n_bytes} bytes")
        except (ValueError, TypeError, SyntaxError, OverflowError, RecursionError) as error:
            raise ValueError(
                f"{path} must be a readable npz without pickles: {info.filename}: {one_line(error)}"
            ) from error
        values = np.frombuffer(file.read(n_bytes), dtype=dtype)
        if values.size != math.prod(shape):
            raise ValueError(f"{path} must be whole, got a part of {info.filename}")
        return values.reshape(shape, order="F" if fortran else "C")


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran's order, and dtype of an npy file."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)
    raise ValueError(f"its npy version must be 1 or 2, got {version}")


def _facts_in_path(path: Path) -> dict[str, Any]:
    """Site and L0 as far as the release's folder names tell them."""
    text = path.absolute().as_posix()
    l0, layer = re.search(r"/average_l0_(\d{1,9})/", text), re.search(r"/layer_(\d{1,6})/", text)
    release = re.search(r"gemma-scope-[\w.-]*?-(res|mlp|att|transcoders)\b", text)
    facts: dict[str, Any] = {"l0": float(l0[1]) if l0 else None}
    if release:
        facts["transcoder"] = release[1] == "transcoders"
    if layer and release:
        kinds = {"res": "resid_post", "mlp": "mlp_out", "att": "attn_out"}
        kind = kinds.get(release[1], "transcoder_in")
        facts["site"] = f"{kind}.{layer[1]}"
        facts["target_site"] = f"mlp_out.{layer[1]}" if kind == "transcoder_in" else None
    return facts
