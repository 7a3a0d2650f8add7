"""Gemma Scope 2's folder: config.json and params.safetensors (w_enc, w_dec, b_enc, b_dec,
threshold, and affine_skip_connection where `affine_connection` is true)."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from ...foreign import Document
from ...store.files import json_bytes, write_folder
from ..sae_config import SAEConfig
from ..sae_files import CONFIG_FILE
from ..tensor_file import file_parts
from .hook_names import hook_names, site_of_hook, width_name
from .reading import (
    Tensors,
    check_declared,
    check_skip,
    config_from_shapes,
    read_config,
    read_safetensors,
    renamed,
)
from .writing import check_folder, layer_of

if TYPE_CHECKING:
    from ..sae import SAE

WEIGHTS = "params.safetensors"
MARKS = (WEIGHTS,)
_NAMES = {
    "W_enc": "w_enc",
    "b_enc": "b_enc",
    "W_dec": "w_dec",
    "b_dec": "b_dec",
    "theta": "threshold",
    "W_skip": "affine_skip_connection",
}


class _Config(Document):
    """config.json."""

    architecture: str | None = None
    model_name: str | None = None
    hf_hook_point_in: str | None = None
    hf_hook_point_out: str | None = None
    width: Annotated[int, Field(gt=0, lt=2**31)] | None = None
    l0: Annotated[float, Field(ge=0)] | None = None
    affine_connection: bool = False
    type: str | None = None


def read(folder: Path) -> tuple[SAEConfig, Tensors]:
    """Reads the folder."""
    path, weights = folder / CONFIG_FILE, folder / WEIGHTS
    config = read_config(_Config, path)
    if config.architecture != "jump_relu":
        raise ValueError(f"{path}: architecture must be jump_relu, got {config.architecture!r}")
    names = {theirs: ours for ours, theirs in _NAMES.items()}
    tensors = renamed(read_safetensors(weights), names, weights)
    check_skip(path, tensors, config.affine_connection, "affine_connection is true")
    site, target = map(site_of_hook, (config.hf_hook_point_in, config.hf_hook_point_out))
    same = config.hf_hook_point_in == config.hf_hook_point_out
    if config.type == "transcoder" and same and config.hf_hook_point_in is not None:
        raise ValueError(
            f"{path}: hf_hook_point_out of a transcoder must differ from hf_hook_point_in, got "
            f"{config.hf_hook_point_out} for both"
        )
    if config.type not in (None, "sae", "transcoder"):
        raise ValueError(f"{path}: type must be sae or transcoder, got {config.type!r}")
    if config.type == "sae" and config.hf_hook_point_out is not None and not same:
        raise ValueError(
            f"{path}: hf_hook_point_out of an SAE must be hf_hook_point_in, "
            f"{config.hf_hook_point_in}, got {config.hf_hook_point_out}"
        )
    facts = {
        "site": site,
        "target_site": None if same else target,
        "transcoder": config.type == "transcoder" or not same,
        "model": config.model_name,
        "l0": config.l0,
    }
    if config.type is None and config.hf_hook_point_out is None:
        facts["transcoder"] = False
    found = config_from_shapes(tensors, path, **facts)
    check_declared(path, found, d_sae=config.width)
    return found, tensors


def write(sae: "SAE", out: Path) -> Path:
    """Writes under the release's folder names; returns the folder."""
    config = sae.config
    _, hook_in = hook_names(config.site)
    _, hook_out = hook_names(config.target_site or config.site)
    if hook_in is None or hook_out is None:
        sites = f"{config.site} or {config.target_site or config.site}"
        raise ValueError(
            f"format gemma-scope-2 names its tensors by transformers' modules, and none has "
            f"{sites} as its input or output; pass --model FOLDER, whose norm's gain turns "
            "transcoder_in into mlp_in, or export as sae-lens"
        )
    kind = "transcoder" if config.is_transcoder else (config.site or "").partition(".")[0]
    record = {
        "architecture": "jump_relu",
        "model_name": config.model,
        "hf_hook_point_in": hook_in,
        "hf_hook_point_out": hook_out,
        "width": config.d_sae,
        "l0": config.l0,
        "affine_connection": sae.W_skip is not None,
        "type": "transcoder" if config.is_transcoder else "sae",
    }
    affine = "_affine" if sae.W_skip is not None else ""
    l0 = "unknown" if config.l0 is None else round(config.l0)
    name = f"layer_{layer_of(sae)}_width_{width_name(config.d_sae)}_l0_{l0}{affine}"
    folder = out / kind / name
    check_folder(folder, (WEIGHTS, CONFIG_FILE), sae)
    tensors = {_NAMES[ours]: tensor for ours, tensor in sae.tensors().items()}
    write_folder(folder, {WEIGHTS: file_parts(tensors)}, (CONFIG_FILE, json_bytes(record)))
    return folder
