"""Writing SAEs the way other projects load them.

Owns the three release formats: Gemma Scope's params.npz under its path names, the SAELens folder,
the Gemma Scope 2 folder. The tensors of an `SAE` are folded already, so nothing is computed here
but names and transposes.
"""

import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..store.files import write_file, write_json
from .formats import (
    PARAMS_FILE,
    SAE_LENS_CONFIG,
    SAE_LENS_WEIGHTS,
    SCOPE_2_NAMES,
    SCOPE_2_WEIGHTS,
    hook_names,
    read_sae,
    width_name,
)
from .sae import SAE
from .sae_files import CONFIG_FILE, write_safetensors
from .settings import local_path

SAE_LENS_VERSION = "6.54.0"  # the loader's config layout; anything below 6 is read as the old one


def export(sae_dir: str | Path, format: str, out: str | Path) -> Path:
    """Reads the SAE at `sae_dir` and writes it under `out`; returns the folder that a loader takes.

    Raises:
        ValueError: an unknown format, or one that cannot hold this SAE, or files already there that
            differ.
    """
    writers = {
        "gemma-scope": _write_gemma_scope,
        "sae-lens": _write_sae_lens,
        "gemma-scope-2": _write_gemma_scope_2,
    }
    if format not in writers:
        raise ValueError(f"format must be one of {', '.join(writers)}, got {format!r}")
    try:
        source, folder = local_path(Path(sae_dir)), local_path(Path(out))
    except ValueError as error:
        raise ValueError(f"sae and out {error}, got {sae_dir} and {out}") from error
    return writers[format](SAE.load(source), folder)


def _write_gemma_scope(sae: SAE, out: Path) -> Path:
    """layer_L/width_16k/average_l0_71/params.npz, the L0 being the measured one."""
    if sae.W_skip is not None:
        raise ValueError(
            "format gemma-scope has no place for the skip connection; export as gemma-scope-2"
        )
    layer, l0 = _layer(sae), sae.config.l0
    if l0 is None:
        raise ValueError("l0 must be known for the release's path names; evaluate the SAE first")
    name = f"layer_{layer}/width_{width_name(sae.config.d_sae)}/average_l0_{round(l0)}"
    folder = _fresh(out / name, PARAMS_FILE, sae)
    names = {"theta": "threshold"}
    arrays = {names.get(k, k): _array(t) for k, t in sae.tensors().items()}
    data = io.BytesIO()
    np.savez(data, allow_pickle=False, **arrays)
    write_file(folder / PARAMS_FILE, data.getvalue())
    return folder


def _write_sae_lens(sae: SAE, out: Path) -> Path:
    """cfg.json + sae_weights.safetensors for SAELens 6's `SAE.load_from_disk`."""
    config = sae.config
    architecture = "jumprelu"
    if config.is_transcoder:
        architecture = (
            "jumprelu_skip_transcoder" if sae.W_skip is not None else "jumprelu_transcoder"
        )
    (hook, hf_hook), (hook_out, hf_hook_out) = (
        hook_names(config.site),
        hook_names(config.target_site),
    )
    metadata = {
        "sae_lens_version": SAE_LENS_VERSION,
        "model_name": config.model,
        "hook_name": hook,
        "hf_hook_name": hf_hook,
        "hook_head_index": None,
        "context_size": config.context,
        "prepend_bos": True,
        "dataset_path": None,
    }
    if config.is_transcoder:
        metadata |= {"hook_name_out": hook_out, "hf_hook_name_out": hf_hook_out}
    record = {
        "architecture": architecture,
        "d_in": config.d_in,
        "d_sae": config.d_sae,
        "dtype": "float32",
        "device": "cpu",
        # Both defaults of the loader would silently change the outputs: C and b_dec are folded in.
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "hook_z" if (hook or "").endswith("hook_z") else "none",
        "metadata": metadata,
    }
    if config.is_transcoder:
        record["d_out"] = config.d_out
    names = {"theta": "threshold"}
    tensors = {names.get(k, k): t for k, t in sae.tensors().items()}
    if sae.W_skip is not None:
        tensors["W_skip"] = sae.W_skip.T
    folder = _fresh(out, SAE_LENS_CONFIG, sae)
    write_safetensors(folder / SAE_LENS_WEIGHTS, tensors)
    write_json(folder / SAE_LENS_CONFIG, record)
    return folder


def _write_gemma_scope_2(sae: SAE, out: Path) -> Path:
    """config.json + params.safetensors as in the Gemma Scope 2 release, under its folder names."""
    config = sae.config
    _, hook_in = hook_names(config.site)
    _, hook_out = hook_names(config.target_site or config.site)
    if hook_in is None or hook_out is None:
        raise ValueError(
            f"format gemma-scope-2 names its tensors by transformers' modules, and none has "
            f"{config.site} or {config.target_site or config.site} as its input or output; export "
            "as gemma-scope or sae-lens"
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
    name = f"layer_{_layer(sae)}_width_{width_name(config.d_sae)}_l0_{l0}{affine}"
    folder = _fresh(out / kind / name, CONFIG_FILE, sae)
    tensors = {SCOPE_2_NAMES[k]: t for k, t in sae.tensors().items()}
    write_safetensors(folder / SCOPE_2_WEIGHTS, tensors)
    write_json(folder / CONFIG_FILE, record)
    return folder


def _layer(sae: SAE) -> str:
    """The layer number as text, from the site's name."""
    layer = (sae.config.site or "").partition(".")[2]
    if not layer.isdigit():
        raise ValueError(
            f"site must be known as <kind>.<layer> for the release's path names, "
            f"got {sae.config.site!r}"
        )
    return layer


def _fresh(folder: Path, name: str, sae: SAE) -> Path:
    """Makes the folder; one that holds anything but an export of the same SAE is refused."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out must be a folder, got the file {folder}")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / name).is_file():
        raise ValueError(
            f"out must be empty or hold an earlier export, got {folder} without {name}"
        )
    if (folder / name).is_file() and not _same_tensors(read_sae(folder)[1], sae.tensors()):
        raise ValueError(
            f"out must not hold another SAE, got {folder}, whose numbers differ; pass another "
            "folder, one for each site"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _same_tensors(old: dict[str, Tensor], new: dict[str, Tensor]) -> bool:
    """Whether two SAEs are the same numbers."""
    return old.keys() == new.keys() and all(
        torch.equal(old[name].cpu(), tensor.float().cpu()) for name, tensor in new.items()
    )


def _array(tensor: Tensor) -> np.ndarray:
    """A contiguous float32 array."""
    return np.ascontiguousarray(tensor.float().cpu().numpy())
