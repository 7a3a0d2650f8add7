"""SAELens's own format: `cfg.json` and `sae_weights.safetensors`.

Read as SAELens 6 reads it, older flat configs included: a pre-encoder bias is folded, and what
would change the numbers in a way that no JumpReLU SAE here has is refused by name.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt

from ....foreign import Document
from ....store.place.files import json_bytes
from ..config import SAEConfig
from ..tensor_file import file_parts
from .shared.names import hook_names, layer_of_hook, may_mean, site_of_hook
from .shared.reading import (
    Tensors,
    TensorsFile,
    agreed,
    complete,
    config_of,
    open_safetensors,
    read_document,
    renamed,
    shown,
    sizes,
    without_scaling_factor,
)

CONFIG_FILE, WEIGHTS_FILE = "cfg.json", "sae_weights.safetensors"
VERSION = "6.54.0"  # the loader's config layout; anything below 6 is read as the old one
_ARCHITECTURES = ("jumprelu", "jumprelu_transcoder", "jumprelu_skip_transcoder")
_NAMES = {"threshold": "theta"}


class _Origin(Document):
    """Where an SAE comes from: `metadata` since SAELens 6, the config's own keys before."""

    model_name: str | None = None
    hook_name: str | None = None
    hook_name_out: str | None = None
    hf_hook_name: str | None = None
    hf_hook_name_out: str | None = None
    hook_head_index: int | None = None
    context_size: PositiveInt | None = None
    dataset_path: str | None = None


class _Config(_Origin):
    """cfg.json, as far as it bears on the numbers; SAELens's defaults."""

    architecture: str = "standard"
    d_in: PositiveInt | None = None
    d_sae: PositiveInt | None = None
    d_out: PositiveInt | None = None
    dtype: str | None = None
    apply_b_dec_to_input: bool = True
    normalize_activations: str | bool | None = None
    activation_fn: str | None = None
    activation_fn_str: str | None = None
    finetuning_scaling_factor: bool | None = None
    reshape_activations: Literal["none", "hook_z"] | None = None
    hook_point: str | None = None
    hook_layer: int | None = None
    metadata: _Origin = Field(default_factory=_Origin)


def read(folder: Path) -> tuple[SAEConfig, Tensors]:
    """Config and tensors; see `read_sae`."""
    path = folder / CONFIG_FILE
    config, where = read_document(_Config, path), str(path)
    _refuse_other_numbers(config, where)
    file = renamed(without_scaling_factor(open_safetensors(folder / WEIGHTS_FILE)), _NAMES)
    if "W_skip" in file.shapes:  # SAELens keeps (d_out, d_in)
        file = _changed(file, lambda t: t | {"W_skip": t["W_skip"].T.contiguous()})
    found = sizes(file)
    for name in ("d_in", "d_sae", "d_out"):
        agreed(where, name, getattr(config, name), found[name])
    _check_dtype(config, file, where)
    skip = config.architecture == "jumprelu_skip_transcoder"
    if skip != ("W_skip" in file.shapes):
        raise ValueError(
            f"{where}: architecture must be jumprelu_skip_transcoder if and only if there is a "
            f"W_skip, got {config.architecture} and {sorted(file.shapes)}"
        )
    if config.architecture == "jumprelu" and config.apply_b_dec_to_input:
        file = _changed(file, _folded)
    return complete(file, config_of(file, where, **_facts(config, where)), where)


def files(config: SAEConfig, tensors: Tensors) -> tuple[str, dict[str, Any]]:
    """The folder's name, and its files in the order in which they are written."""
    architecture = "jumprelu"
    if config.is_transcoder:
        architecture = "jumprelu_skip_transcoder" if "W_skip" in tensors else "jumprelu_transcoder"
    hook, hf_hook = hook_names(config.site)
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
        hook_out, hf_hook_out = hook_names(config.target_site)
        metadata |= {"hook_name_out": hook_out or hf_hook_out, "hf_hook_name_out": hf_hook_out}
        record["d_out"] = config.d_out
    theirs = {"theta": "threshold"}
    renamed_tensors = {theirs.get(name, name): t.float() for name, t in tensors.items()}
    if "W_skip" in tensors:
        renamed_tensors["W_skip"] = tensors["W_skip"].float().T
    return "", {WEIGHTS_FILE: file_parts(renamed_tensors), CONFIG_FILE: [json_bytes(record)]}


def _refuse_other_numbers(config: _Config, where: str) -> None:
    """Refuses what gives other numbers than a JumpReLU SAE's."""
    if config.architecture not in _ARCHITECTURES:
        raise ValueError(
            f"{where}: architecture must be one of {', '.join(_ARCHITECTURES)}, "
            f"got {shown(config.architecture)}"
        )
    if config.normalize_activations not in (None, False, "none"):
        raise ValueError(
            f"{where}: normalize_activations must be none, got "
            f"{shown(config.normalize_activations)}; fold the normalisation with SAELens first"
        )
    for name in ("activation_fn", "activation_fn_str"):
        if getattr(config, name) not in (None, "relu"):
            raise ValueError(f"{where}: {name} must be relu, got {shown(getattr(config, name))}")
    if config.architecture != "jumprelu" and config.apply_b_dec_to_input:
        raise ValueError(
            f"{where}: apply_b_dec_to_input must be false for a transcoder, whose b_dec is its "
            "target's (left out it means true); SAELens refuses the file, too"
        )
    if config.hook_head_index is not None or config.metadata.hook_head_index is not None:
        raise ValueError(f"{where}: hook_head_index must be null: SAEs here read all heads at once")


def _check_dtype(config: _Config, file: TensorsFile, where: str) -> None:
    """SAELens rounds to the declared type without a word; here the file must be of it."""
    if config.dtype is None:
        return
    declared = config.dtype.removeprefix("torch.")
    for name, tensor in file.shapes.items():
        if str(tensor.dtype) != f"torch.{declared}":
            raise ValueError(
                f"{where}: dtype must be {str(tensor.dtype).removeprefix('torch.')}, as {name} is "
                f"stored, got {shown(declared)}"
            )


def _facts(config: _Config, where: str) -> dict[str, Any]:
    """Origin, from whichever place says it; both places must not differ."""
    older = config.model_copy(update={"hook_name": config.hook_name or config.hook_point})
    agreed(where, "hook_point", config.hook_point, config.hook_name)
    known: dict[str, Any] = {}
    for name in _Origin.model_fields:
        agreed(where, f"metadata.{name}", getattr(config.metadata, name), getattr(older, name))
        value = getattr(config.metadata, name)
        known[name] = getattr(older, name) if value is None else value
    agreed(where, "hook_layer", config.hook_layer, layer_of_hook(known["hook_name"]))
    facts = {
        "site": _site(known["hook_name"], known["hf_hook_name"], where),
        "target_site": _site(known["hook_name_out"], known["hf_hook_name_out"], where),
        "model": known["model_name"],
        "context": known["context_size"],
        "tokens": known["dataset_path"],
    }
    if config.architecture != "jumprelu":
        return facts | {"transcoder": True}
    if known["hook_name_out"] not in (None, known["hook_name"]):
        raise ValueError(
            f"{where}: hook_name_out must not be there for architecture jumprelu, which predicts "
            f"what it reads, got {shown(known['hook_name_out'])}"
        )
    return facts | {"target_site": None}


def _site(lens: str | None, hugging_face: str | None, where: str) -> str | None:
    """The site of two names for it, of which either may be missing or unknown."""
    names = [name for name in (lens, hugging_face) if name]
    site = next((site for site in map(site_of_hook, names) if site is not None), None)
    if site is not None and not all(may_mean(name, site) for name in names):
        raise ValueError(
            f"{where}: hooks must name one site, got {shown(lens)} and {shown(hugging_face)}"
        )
    return site


def _folded(tensors: Tensors) -> Tensors:
    """Tensors without the pre-encoder bias."""
    if any(tensor.is_meta for tensor in tensors.values()):
        return tensors
    exact = {name: tensors[name].float() for name in ("b_enc", "b_dec", "W_enc")}
    return tensors | {"b_enc": exact["b_enc"] - exact["b_dec"] @ exact["W_enc"]}


def _changed(file: TensorsFile, change: Callable[[Tensors], Tensors]) -> TensorsFile:
    """The file with its tensors changed when they are read."""
    return TensorsFile(file.path, change(file.shapes), lambda: change(file.load()))
