"""Gemma Scope's release: `layer_L/width_16k/average_l0_71/params.npz`.

    params.npz   float32 W_enc [d_in, d_sae], b_enc [d_sae], W_dec [d_sae, d_out], b_dec [d_out],
                 threshold [d_sae], for raw activations
    origin.json  ours: {"site", "target_site", "model", "l0"}

Google's release names an SAE's site only in its folders' names. Our `origin.json` keeps it when the
file is moved.
"""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import NonNegativeFloat
from torch import Tensor

from ....foreign import Document
from ....store.place.files import json_bytes
from ..config import SAEConfig
from .shared.names import l0_in, width_name
from .shared.npz import open_npz
from .shared.reading import (
    Tensors,
    TensorsFile,
    agreed,
    complete,
    config_of,
    read_document,
    renamed,
    sizes,
    without_scaling_factor,
)

PARAMS_FILE = "params.npz"
ORIGIN_FILE = "origin.json"
_KINDS = {"res": "resid_post", "mlp": "mlp_out", "att": "attn_out", "transcoders": "transcoder_in"}
_TUNED = {"pt": "", "it": "-it"}


class _Origin(Document):
    """Our origin.json."""

    site: str
    target_site: str | None = None
    model: str | None = None
    l0: NonNegativeFloat


def read(path: Path) -> tuple[SAEConfig, Tensors]:
    """Config and tensors of a params.npz, or of its folder; see `read_sae`."""
    path = path if path.is_file() else path / PARAMS_FILE
    # Some of the released transcoders spell their weights w_enc and w_dec.
    names = {"threshold": "theta", "w_enc": "W_enc", "w_dec": "W_dec"}
    file = renamed(without_scaling_factor(open_npz(path)), names)
    named = _facts_in_path(path)
    agreed(str(path), "width", named.pop("width"), width_name(sizes(file)["d_sae"]))
    facts = _with_origin(path, named, named.pop("layer"))
    if "W_skip" in file.shapes:
        raise ValueError(
            f"{path} must not hold W_skip: Gemma Scope's format has no skip connection"
        )
    if facts.get("target_site") is None and facts.get("site") is None:
        facts["transcoder"] = _is_transcoder(file)
    return complete(file, config_of(file, str(path), **facts), str(path))


def files(config: SAEConfig, tensors: Tensors) -> tuple[str, dict[str, list[bytes]]]:
    """The folder's name, and its files in the order in which they are written.

    Raises:
        ValueError: the format cannot hold this SAE, or a fact is missing that its names need.
    """
    if "W_skip" in tensors:
        raise ValueError(
            "format gemma-scope has no place for the skip connection; export as sae-lens or "
            "gemma-scope-2"
        )
    kind, _, layer = (config.site or "").partition(".")
    if kind == "mlp_in":
        raise ValueError(
            f"format gemma-scope must not be used for {config.site}: its transcoders are read "
            "without the norm's gain; export as sae-lens or gemma-scope-2"
        )
    if config.l0 is None:
        raise ValueError(
            "l0 must be known for the release's path names, and the SAE's files do not tell it; "
            "pass l0, or evaluation, the JSON that scopeworks evaluate wrote"
        )
    name = f"layer_{layer}/width_{width_name(config.d_sae)}/average_l0_{round(config.l0)}"
    origin = {
        "site": config.site,
        "target_site": config.target_site,
        "model": config.model,
        "l0": config.l0,
    }
    names = {"theta": "threshold"}
    data = io.BytesIO()
    arrays = {names.get(key, key): _array(tensor) for key, tensor in tensors.items()}
    np.savez(data, allow_pickle=False, **arrays)
    return name, {ORIGIN_FILE: [json_bytes(origin)], PARAMS_FILE: [data.getvalue()]}


def _is_transcoder(file: TensorsFile) -> bool | None:
    """True if input and output have different widths; None if the tensors do not tell."""
    found = sizes(file)
    return True if found["d_in"] != found["d_out"] else None


def _with_origin(path: Path, named: dict[str, Any], layer: str | None) -> dict[str, Any]:
    """The facts of origin.json, or those of the folders' names if there is none. Raises ValueError
    if the two contradict each other."""
    where = path.with_name(ORIGIN_FILE)
    if not where.exists():
        return named
    origin = read_document(_Origin, where)
    for name in ("site", "target_site"):
        agreed(str(where), name, getattr(origin, name), named.get(name))
    agreed(str(where), "layer of site", origin.site.partition(".")[2], layer)
    agreed(str(where), "l0", float(round(origin.l0)), named["l0"])
    return origin.model_dump()


def _facts_in_path(path: Path) -> dict[str, Any]:
    """Width, site, model and L0 as far as the release's folder names tell them."""
    text = path.absolute().as_posix()

    def last(pattern: str) -> str | None:
        """What the innermost folder of this name says."""
        found = re.findall(pattern, text)
        return found[-1] if found else None

    layer = last(r"/layer_(\d{1,6})(?=/)")
    release = last(r"gemma-scope-[\w.-]*?-(res|mlp|att|transcoders)\b")
    model = re.findall(r"gemma-scope-(2b|9b|27b)-(pt|it)-", text)
    facts: dict[str, Any] = {
        "l0": l0_in(path),
        "width": last(r"/width_(\d{1,9}[km]?)(?=/)"),
        "layer": layer,
        "model": f"google/gemma-2-{model[-1][0]}{_TUNED[model[-1][1]]}" if model else None,
    }
    if layer and release:
        kind = _KINDS[release]
        facts["site"] = f"{kind}.{layer}"
        facts["target_site"] = f"mlp_out.{layer}" if kind == "transcoder_in" else None
    return facts


def _array(tensor: Tensor) -> np.ndarray:
    """A contiguous float32 array."""
    return np.ascontiguousarray(tensor.float().cpu().numpy())
