"""Reading SAEs from disk, whoever wrote them, and the names those formats use.

Owns detection, the readers, and the mapping between site names here and hook names elsewhere.
Writers are in `export`. Every reader returns the config and the tensors of a folded SAE (raw
activations in and out).
"""

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .sae_config import SAEConfig
from .sae_files import CONFIG_FILE, WEIGHTS_FILE

Tensors = dict[str, Tensor]

# kind here -> (TransformerLens hook, Hugging Face module path), formatted with the layer
HOOKS = {
    "attn_out": ("blocks.{}.attn.hook_z", "model.layers.{}.self_attn.o_proj.input"),
    "mlp_out": (
        "blocks.{}.hook_mlp_out",
        "model.layers.{}.post_feedforward_layernorm.output",
    ),
    "resid_post": ("blocks.{}.hook_resid_post", "model.layers.{}.output"),
    # The gainless vector is no module's input or output in transformers; the norm's output has the
    # gain in it and must not be fed to these transcoders.
    "transcoder_in": ("blocks.{}.ln2.hook_normalized", None),
}
PARAMS_FILE = "params.npz"
SAE_LENS_CONFIG, SAE_LENS_WEIGHTS = "cfg.json", "sae_weights.safetensors"
SCOPE_2_WEIGHTS = "params.safetensors"
SCOPE_2_NAMES = {
    "W_enc": "w_enc",
    "b_enc": "b_enc",
    "W_dec": "w_dec",
    "b_dec": "b_dec",
    "theta": "threshold",
    "W_skip": "affine_skip_connection",
}


def read_sae(path: Path) -> tuple[SAEConfig, Tensors]:
    """Reads whichever SAE lies at `path`.

    Raises:
        FileNotFoundError: nothing is there, or a part of it is missing.
        ValueError: no format that is known here, or one with features a JumpReLU SAE does not have.
    """
    if path.is_file():
        if path.suffix == ".npz":
            return _read_params(path)
        return read_sae(path.parent)
    if not path.is_dir():
        raise FileNotFoundError(
            f"SAE path {path} does not exist; pass a trained folder, a params.npz, a "
            "SAELens folder or a Gemma Scope 2 folder"
        )
    readers = {
        SAE_LENS_CONFIG: _read_sae_lens,
        SCOPE_2_WEIGHTS: _read_scope_2,
        PARAMS_FILE: lambda folder: _read_params(folder / PARAMS_FILE),
        CONFIG_FILE: _read_trained,
        WEIGHTS_FILE: _read_trained,
    }
    for name, reader in readers.items():
        if (path / name).is_file():
            return reader(path)
    raise ValueError(
        f"SAE folder {path} must hold one of {', '.join(readers)}, got "
        f"{', '.join(sorted(p.name for p in path.iterdir())[:6]) or 'nothing'}; "
        "pass the folder that train or export wrote"
    )


def trained_config(folder: Path) -> SAEConfig | None:
    """What a training run wrote about its SAE; None while it has not finished."""
    record = _read_json(folder / CONFIG_FILE)
    if record.get("settings") is not None and record.get("sae") is None:
        return None
    try:
        return SAEConfig.model_validate(record.get("sae"))
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(
            f"{folder / CONFIG_FILE} is not a trained SAE's: {first['loc']}: {first['msg']}"
        ) from error


def _read_trained(folder: Path) -> tuple[SAEConfig, Tensors]:
    """This project's own folder."""
    config = trained_config(folder)
    if config is None or not (folder / WEIGHTS_FILE).is_file():
        raise FileNotFoundError(
            f"{folder} holds no finished SAE: its training has not ended; repeat the train command "
            "to continue it"
        )
    return config, _read_safetensors(folder / WEIGHTS_FILE)


def _read_params(path: Path) -> tuple[SAEConfig, Tensors]:
    """Gemma Scope's release: float32 W_enc [n, M], W_dec [M, n], b_enc, b_dec, threshold."""
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{path} must be a readable npz without pickles: {error}") from error
    # Some of the released transcoders spell their weights w_enc and w_dec.
    tensors = {
        re.sub("^w_", "W_", name): torch.from_numpy(array.astype(np.float32))
        for name, array in arrays.items()
    }
    tensors = _renamed(tensors, {"threshold": "theta"}, path)
    return _config_from_shapes(tensors, path, **_facts_in_path(path)), tensors


def _read_sae_lens(folder: Path) -> tuple[SAEConfig, Tensors]:
    """SAELens 6: cfg.json + sae_weights.safetensors; a pre-encoder bias is folded."""
    path = folder / SAE_LENS_CONFIG
    record = _read_json(path)
    architectures = ("jumprelu", "jumprelu_transcoder", "jumprelu_skip_transcoder")
    if record.get("architecture") not in architectures:
        raise ValueError(
            f"{path}: architecture must be one of {', '.join(architectures)}, "
            f"got {record.get('architecture')!r}"
        )
    if record.get("normalize_activations") not in (None, "none"):
        raise ValueError(
            f"{path}: normalize_activations must be none, got {record['normalize_activations']!r}; "
            "fold the normalisation with SAELens first"
        )
    tensors = _read_safetensors(folder / SAE_LENS_WEIGHTS)
    tensors = _renamed(tensors, {"threshold": "theta"}, folder / SAE_LENS_WEIGHTS)
    if record.get("apply_b_dec_to_input", True):
        tensors["b_enc"] = tensors["b_enc"] - tensors["b_dec"] @ tensors["W_enc"]
    if "W_skip" in tensors:  # SAELens keeps (d_out, d_in)
        tensors["W_skip"] = tensors["W_skip"].T.contiguous()
    metadata = record.get("metadata") or {}
    facts = {
        "site": site_of_hook(metadata.get("hook_name")),
        "target_site": site_of_hook(metadata.get("hook_name_out")),
        "model": metadata.get("model_name"),
        "context": metadata.get("context_size"),
        "tokens": metadata.get("dataset_path"),
    }
    return _config_from_shapes(tensors, path, **facts), tensors


def _read_scope_2(folder: Path) -> tuple[SAEConfig, Tensors]:
    """Gemma Scope 2: config.json + params.safetensors."""
    record = _read_json(folder / CONFIG_FILE)
    if record.get("architecture") != "jump_relu":
        raise ValueError(
            f"{folder / CONFIG_FILE}: architecture must be jump_relu, "
            f"got {record.get('architecture')!r}"
        )
    path = folder / SCOPE_2_WEIGHTS
    names = {theirs: ours for ours, theirs in SCOPE_2_NAMES.items()}
    tensors = _renamed(_read_safetensors(path), names, path)
    facts = {
        "site": site_of_hook(record.get("hf_hook_point_in")),
        "target_site": site_of_hook(record.get("hf_hook_point_out")),
        "model": record.get("model_name"),
        "l0": record.get("l0"),
    }
    if facts["target_site"] == facts["site"]:
        facts["target_site"] = None
    return _config_from_shapes(tensors, path, **facts), tensors


def hook_names(site: str | None) -> tuple[str | None, str | None]:
    """(TransformerLens hook, Hugging Face module path) of a site; Nones for an unknown one."""
    kind, _, layer = (site or "").partition(".")
    if kind not in HOOKS:
        return None, None
    lens, hugging_face = HOOKS[kind]
    return lens.format(layer), hugging_face and hugging_face.format(layer)


def site_of_hook(hook: str | None) -> str | None:
    """The site that a TransformerLens or Hugging Face hook name stands for, if any."""
    for kind, patterns in HOOKS.items():
        for pattern in filter(None, patterns):
            match = re.fullmatch(re.escape(pattern).replace(r"\{\}", r"(\d+)"), hook or "")
            if match:
                return f"{kind}.{match[1]}"
    return None


def width_name(width: int) -> str:
    """The release's name of a width: 2^14 → 16k, 2^17 → 131k, 2^20 → 1m (thousands, cut off)."""
    for unit, suffix in ((1_000_000, "m"), (1_000, "k")):
        if width >= unit:
            return f"{width // unit}{suffix}"
    return str(width)


def _facts_in_path(path: Path) -> dict[str, Any]:
    """Site and L0 as far as the release's folder names tell them."""
    text = path.absolute().as_posix()
    l0, layer = re.search(r"/average_l0_(\d+)/", text), re.search(r"/layer_(\d+)/", text)
    release = re.search(r"gemma-scope-[\w.-]*?-(res|mlp|att|transcoders)\b", text)
    facts: dict[str, Any] = {"l0": float(l0[1]) if l0 else None}
    if layer and release:
        kinds = {"res": "resid_post", "mlp": "mlp_out", "att": "attn_out"}
        kind = kinds.get(release[1], "transcoder_in")
        facts["site"] = f"{kind}.{layer[1]}"
        facts["target_site"] = f"mlp_out.{layer[1]}" if kind == "transcoder_in" else None
    return facts


def _config_from_shapes(tensors: Tensors, path: Path, **facts: Any) -> SAEConfig:
    """A config for a foreign file: sizes from its tensors, the rest as far as known."""
    W_enc, W_dec = tensors.get("W_enc"), tensors.get("W_dec")
    if W_enc is None or W_dec is None or W_enc.ndim != 2 or W_dec.ndim != 2:
        raise ValueError(
            f"{path} must hold the matrices W_enc and W_dec of one layer, got "
            f"{ {name: tuple(t.shape) for name, t in tensors.items()} }"
        )
    (d_in, d_sae), d_out = W_enc.shape, W_dec.shape[1]
    try:
        return SAEConfig(d_in=d_in, d_sae=d_sae, d_out=d_out, **facts)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{path}: {first['loc']}: {first['msg']}") from error


def _renamed(tensors: Tensors, names: dict[str, str], path: Path) -> Tensors:
    """Tensors under this project's names; an unknown one might change the SAE, so it is refused."""
    renamed = {names.get(name, name): tensor for name, tensor in tensors.items()}
    unknown = sorted(set(renamed) - set(SCOPE_2_NAMES))
    if unknown:
        raise ValueError(f"{path} holds tensors that no JumpReLU SAE has: {', '.join(unknown)}")
    return renamed


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object, or one line about what is wrong with it."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; the SAE's folder is not complete")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} must be a JSON object, got {type(value).__name__}")
    return value


def _read_safetensors(path: Path) -> Tensors:
    """The tensors of a safetensors file, as float32 on the CPU."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; the SAE's folder is not complete")
    try:
        return {name: tensor.float() for name, tensor in load_file(path).items()}
    except SafetensorError as error:
        raise ValueError(f"{path} must be a safetensors file: {error}") from error
