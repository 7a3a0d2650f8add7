"""Gemma Scope 2's release: `config.json` and `params.safetensors`."""

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import NonNegativeFloat, PositiveInt

from ....foreign import Document
from ....store.place.files import json_bytes
from ..config import SAEConfig
from ..tensor_file import file_parts
from .shared.names import hook_names, layer_of_hook, site_of_hook, width_name
from .shared.reading import (
    Tensors,
    agreed,
    complete,
    config_of,
    open_safetensors,
    read_document,
    renamed,
    shown,
    sizes,
)

CONFIG_FILE, WEIGHTS_FILE = "config.json", "params.safetensors"
NAMES = {
    "W_enc": "w_enc",
    "b_enc": "b_enc",
    "W_dec": "w_dec",
    "b_dec": "b_dec",
    "theta": "threshold",
    "W_skip": "affine_skip_connection",
}


class _Config(Document):
    architecture: Literal["jump_relu"]
    model_name: str | None = None
    hf_hook_point_in: str | None = None
    hf_hook_point_out: str | None = None
    width: PositiveInt | None = None
    l0: NonNegativeFloat | None = None
    affine_connection: bool | None = None
    type: Literal["sae", "transcoder"] | None = None


def read(folder: Path) -> tuple[SAEConfig, Tensors]:
    """Config and tensors; see `read_sae`."""
    path = folder / CONFIG_FILE
    named = None if path.exists() else _named(folder)
    config, where = named or read_document(_Config, path), str(path)
    names = {theirs: ours for ours, theirs in NAMES.items()}
    file = renamed(open_safetensors(folder / WEIGHTS_FILE), names)
    agreed(where, "width", config.width, sizes(file)["d_sae"])
    skip = bool(config.affine_connection)
    if skip != ("W_skip" in file.shapes):
        raise ValueError(
            f"{where}: affine_connection must be true if and only if {WEIGHTS_FILE} holds "
            f"{NAMES['W_skip']}, got {str(skip).lower()} and {sorted(file.shapes)}"
        )
    facts = _sites(config, folder, where) | {"model": config.model_name, "l0": config.l0}
    return complete(file, config_of(file, where, **facts), where)


def files(config: SAEConfig, tensors: Tensors) -> tuple[str, dict[str, Any]]:
    """The folder's name, and its files in the order in which they are written.

    Raises:
        ValueError: transformers has no module whose input or output a site is.
    """
    sites = (config.site, config.target_site or config.site)
    hook_in, hook_out = (hook_names(site)[1] for site in sites)
    if hook_in is None or hook_out is None:
        raise ValueError(
            f"format gemma-scope-2 names its tensors by transformers' modules, and none has "
            f"{' or '.join(dict.fromkeys(map(str, sites)))} as its input or output; pass model, "
            "whose norm's gain turns transcoder_in into mlp_in, or export as sae-lens"
        )
    kind, _, layer = (config.site or "").partition(".")
    record = {
        "architecture": "jump_relu",
        "model_name": config.model,
        "hf_hook_point_in": hook_in,
        "hf_hook_point_out": hook_out,
        "width": config.d_sae,
        "l0": config.l0,
        "affine_connection": "W_skip" in tensors,
        "type": "transcoder" if config.is_transcoder else "sae",
    }
    affine = "_affine" if "W_skip" in tensors else ""
    l0 = "unknown" if config.l0 is None else round(config.l0)
    name = f"layer_{layer}_width_{width_name(config.d_sae)}_l0_{l0}{affine}"
    weights = {NAMES[ours]: tensor.float() for ours, tensor in tensors.items()}
    return f"{'transcoder' if config.is_transcoder else kind}/{name}", {
        WEIGHTS_FILE: file_parts(weights),
        CONFIG_FILE: [json_bytes(record)],
    }


def _named(folder: Path) -> _Config | None:
    """The config that Google's repository and folder names imply, for its folders without one."""
    text = folder.absolute().as_posix()
    releases = re.findall(r"gemma-scope-2-(\d+m|\d+b)-(pt|it)(?=/)", text)
    place = re.search(
        r"/(resid_post|attn_out|mlp_out|transcoder)(?:_all)?/layer_(\d{1,6})_width_[^/]+$", text
    )
    if not releases or place is None:
        return None
    size, tuned = releases[-1]
    model = f"google/gemma-3-{size}-{tuned}"
    transcoder = place[1] == "transcoder"
    into = hook_names(f"{'mlp_in' if transcoder else place[1]}.{place[2]}")[1]
    return _Config(
        architecture="jump_relu",
        model_name=model.removesuffix("-pt") if size == "270m" else model,
        hf_hook_point_in=into,
        hf_hook_point_out=hook_names(f"mlp_out.{place[2]}")[1] if transcoder else into,
        affine_connection=text.endswith("_affine"),
        type="transcoder" if transcoder else "sae",
    )


def _sites(config: _Config, folder: Path, where: str) -> dict[str, Any]:
    """Sites, and whether the SAE is a transcoder. Raises ValueError if type, hooks and the folder's
    name contradict each other."""
    into, out = config.hf_hook_point_in, config.hf_hook_point_out
    two = out is not None and out != into
    if config.type == "sae" and two:
        raise ValueError(
            f"{where}: type must be transcoder for {shown(into)} to {shown(out)}, got sae"
        )
    if config.type == "transcoder" and out is not None and not two:
        raise ValueError(f"{where}: type must be sae for {shown(into)} alone, got transcoder")
    named = re.match(r"layer_(\d{1,6})_width_", folder.absolute().name)
    agreed(
        where, "layer of hf_hook_point_in", layer_of_hook(into), int(named[1]) if named else None
    )
    transcoder = config.type == "transcoder" or two
    return {
        "site": site_of_hook(into),
        "target_site": site_of_hook(out) if transcoder else None,
        "transcoder": transcoder or None,
    }
