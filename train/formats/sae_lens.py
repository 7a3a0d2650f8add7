"""SAELens's folder: cfg.json and sae_weights.safetensors.

Written as version 6 loads it with `SAE.load_from_disk`; read from version 3 on, whose cfg.json is
flat (hook_name, model_name and the like beside d_in). Tensors have this project's shapes, but for
`threshold` (θ) and W_skip, which is [d_out, d_in]. Where SAELens's defaults would change what the
SAE computes, the value is written out, and what is read is taken as SAELens takes it.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from ...foreign import Document
from ...store.files import json_bytes, write_folder
from ..sae_config import SAEConfig
from ..tensor_file import file_parts
from .hook_names import hook_names, site_of_hook
from .reading import (
    Tensors,
    check_declared,
    check_skip,
    config_from_shapes,
    read_config,
    read_safetensors,
    renamed,
)
from .writing import check_folder

if TYPE_CHECKING:
    from ..sae import SAE

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
MARKS = (CONFIG,)
VERSION = "6.54.0"  # the loader's config layout; anything below 6 is read as the old one
_ARCHITECTURES = ("jumprelu", "jumprelu_transcoder", "jumprelu_skip_transcoder")
Size = Annotated[int, Field(gt=0, lt=2**31)]


class _Metadata(Document):
    """Where the SAE belongs."""

    hook_name: str | None = None
    hf_hook_name: str | None = None
    hook_name_out: str | None = None
    hf_hook_name_out: str | None = None
    hook_head_index: int | None = None
    model_name: str | None = None
    context_size: Size | None = None
    dataset_path: str | None = None


class _Config(Document):
    """cfg.json, old layouts brought to the new one."""

    architecture: str | None = None
    d_in: Size | None = None
    d_sae: Size | None = None
    d_out: Size | None = None
    dtype: str | None = None
    apply_b_dec_to_input: bool | None = None
    normalize_activations: str | bool | None = None
    reshape_activations: str | None = None
    finetuning_scaling_factor: bool | None = None
    metadata: _Metadata = _Metadata()

    @model_validator(mode="before")
    @classmethod
    def _flat_layout(cls, value: Any) -> Any:
        """Before version 6 there was no `metadata`, and before 3.13 hook_name was hook_point."""
        if not isinstance(value, dict) or value.get("metadata") is not None:
            return value
        own = {"hook_name": value["hook_point"]} if "hook_point" in value else {}
        return value | {"metadata": value | own}


def read(folder: Path) -> tuple[SAEConfig, Tensors]:
    """Reads the folder; a pre-encoder bias is folded."""
    path = folder / CONFIG
    config = read_config(_Config, path)
    if config.architecture not in _ARCHITECTURES:
        raise ValueError(
            f"{path}: architecture must be one of {', '.join(_ARCHITECTURES)}, "
            f"got {config.architecture!r}"
        )
    _refuse_what_changes_outputs(config, path)
    is_transcoder = config.architecture != "jumprelu"
    pre_bias = config.apply_b_dec_to_input in (None, True)
    if is_transcoder and pre_bias:
        raise ValueError(
            f"{path}: apply_b_dec_to_input must be false for a transcoder, got "
            f"{config.apply_b_dec_to_input} (absent means true); SAELens refuses it too"
        )
    tensors = read_safetensors(folder / WEIGHTS)
    tensors = renamed(tensors, {"threshold": "theta"}, folder / WEIGHTS)
    how = "architecture is jumprelu_skip_transcoder"
    check_skip(path, tensors, config.architecture == _ARCHITECTURES[2], how)
    if "W_skip" in tensors:  # SAELens keeps (d_out, d_in)
        tensors["W_skip"] = tensors["W_skip"].T.contiguous()
    meta = config.metadata
    facts = {
        "site": _site(path, meta.hook_name, meta.hf_hook_name),
        "target_site": _site(path, meta.hook_name_out, meta.hf_hook_name_out),
        "transcoder": is_transcoder,
        "model": meta.model_name,
        "context": meta.context_size,
        "tokens": meta.dataset_path,
    }
    if not is_transcoder and facts["target_site"] is not None:
        raise ValueError(
            f"{path}: hook_name_out must be left out of an SAE, got {meta.hook_name_out}; its "
            "architecture would be jumprelu_transcoder"
        )
    found = config_from_shapes(tensors, path, **facts)
    check_declared(path, found, d_in=config.d_in, d_sae=config.d_sae, d_out=config.d_out)
    if not is_transcoder and found.d_in != found.d_out:
        raise ValueError(f"{path}: d_out of an SAE must be d_in, {found.d_in}, got {found.d_out}")
    if pre_bias and "b_enc" in tensors and "b_dec" in tensors:
        tensors["b_enc"] = tensors["b_enc"] - tensors["b_dec"] @ tensors["W_enc"]
    return found, tensors


def write(sae: "SAE", out: Path) -> Path:
    """Writes the folder itself; returns it."""
    check_folder(out, (WEIGHTS, CONFIG), sae)
    names = {"theta": "threshold"}
    tensors = {names.get(name, name): tensor for name, tensor in sae.tensors().items()}
    if sae.W_skip is not None:
        tensors["W_skip"] = sae.W_skip.T
    record = json_bytes(_record(sae))
    write_folder(out, {WEIGHTS: file_parts(tensors)}, (CONFIG, record))
    return out


def _record(sae: "SAE") -> dict[str, Any]:
    """cfg.json."""
    config = sae.config
    architecture = "jumprelu"
    if config.is_transcoder:
        architecture = _ARCHITECTURES[2 if sae.W_skip is not None else 1]
    (hook, hf_hook), (hook_out, hf_hook_out) = (
        hook_names(config.site),
        hook_names(config.target_site),
    )
    metadata = {
        "sae_lens_version": VERSION,
        "model_name": config.model,
        "hook_name": hook or hf_hook,
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
    return record | ({"d_out": config.d_out} if config.is_transcoder else {})


def _refuse_what_changes_outputs(config: _Config, path: Path) -> None:
    """Features of SAELens that this project's SAE cannot represent."""
    if config.normalize_activations not in (None, False, "none"):
        raise ValueError(
            f"{path}: normalize_activations must be none, got {config.normalize_activations!r}; "
            "fold the normalisation with SAELens first"
        )
    if config.finetuning_scaling_factor:
        raise ValueError(
            f"{path}: finetuning_scaling_factor must be false, got true; fold it with SAELens first"
        )
    if config.metadata.hook_head_index is not None:
        raise ValueError(
            f"{path}: hook_head_index must be null, got {config.metadata.hook_head_index}: an SAE "
            "of a single head reads no site that is known here"
        )


def _site(path: Path, *hooks: str | None) -> str | None:
    """The site that the hooks name; those that are known must agree."""
    sites = {site for hook in hooks if (site := site_of_hook(hook)) is not None}
    if len(sites) > 1:
        raise ValueError(
            f"{path}: hook names must be of one site, got {', '.join(map(str, hooks))}"
        )
    return sites.pop() if sites else None
