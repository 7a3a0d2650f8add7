"""SAELens's own format: `cfg.json` and `sae_weights.safetensors`.

Reads, from SAELens 3 on (`sae_lens_config`), every kind of SAE that can be turned into a JumpReLU
or top-k SAE (`shared.folding`). Options that change the numbers in another way are refused by name.
Writes JumpReLU SAEs only.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import PositiveFloat

from ....foreign import Document
from ....store.place.files import json_bytes
from ..config import SAEConfig
from ..tensor_file import file_parts
from .sae_lens_config import ARCHITECTURES, Kind, LensConfig, as_since_6, facts_of, k_of, kind_of
from .shared import folding
from .shared.names import hook_names, l0_in
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
)

CONFIG_FILE, WEIGHTS_FILE = "cfg.json", "sae_weights.safetensors"
SCALER_FILE = "activation_scaler.json"
"""Beside the checkpoints of a training run that scales its inputs."""
VERSION = "6.54.0"  # the loader's config layout; anything below 6 is read as the old one


class _Scaler(Document):
    scaling_factor: PositiveFloat


def read(folder: Path) -> tuple[SAEConfig, Tensors]:
    """Config and tensors; see `read_sae`."""
    path = folder / CONFIG_FILE
    where = str(path)
    config = as_since_6(read_document(LensConfig, path), where)
    kind = kind_of(config, where)
    scale = _input_scale(config, folder)
    file = _as_jumprelu(open_safetensors(folder / WEIGHTS_FILE), config, kind, scale)
    if "W_skip" in file.shapes:  # SAELens keeps (d_out, d_in)
        file = _changed(file, lambda t: t | {"W_skip": t["W_skip"].T.contiguous()})
    found = sizes(file)
    for name in ("d_in", "d_sae", "d_out"):
        agreed(where, name, getattr(config, name), found[name])
    if kind.skip != ("W_skip" in file.shapes):
        raise ValueError(
            f"{where}: architecture must be a skip_transcoder if and only if there is a W_skip, "
            f"got {config.architecture} and {sorted(file.shapes)}"
        )
    facts = facts_of(config, kind, where) | {"k": k_of(config, where), "l0": l0_in(folder)}
    if scale is not None:
        facts["normaliser"] = 1 / scale
    return complete(file, config_of(file, where, **facts), where)


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


def _input_scale(config: LensConfig, folder: Path) -> float | None:
    """What inputs are multiplied by; None for nothing. A training run's checkpoint has the scale in
    activation_scaler.json."""
    asked, where = config.normalize_activations, folder / CONFIG_FILE
    if asked == "none":
        return None
    if asked != "expected_average_only_in" or ARCHITECTURES[config.architecture].transcoder:
        raise ValueError(
            f"{where}: normalize_activations must be none or, for an SAE, "
            f"expected_average_only_in, got {shown(asked)}, which is not folded into tensors here"
        )
    path = folder / SCALER_FILE
    if not path.exists():
        raise ValueError(
            f"{where}: normalize_activations must be none where no {SCALER_FILE} tells the scale, "
            f"got {shown(asked)}; fold it with SAELens's fold_activation_norm_scaling_factor first"
        )
    return read_document(_Scaler, path).scaling_factor


def _as_jumprelu(
    file: TensorsFile, config: LensConfig, kind: Kind, scale: float | None
) -> TensorsFile:
    """The file with our names; when its tensors are read they become a JumpReLU or top-k SAE's."""
    _check_dtype(config, file)
    if "threshold" in file.shapes and "threshold" not in kind.names:
        raise ValueError(
            f"{file.path.with_name(CONFIG_FILE)}: architecture must be jumprelu or one of its "
            f"transcoders for an SAE with threshold, got {config.architecture} (standard is taken "
            "where none is given)"
        )
    extra = _extra(config, file)

    def load() -> Tensors:
        raw = file.load()
        ours = {kind.names.get(name, name): t for name, t in raw.items() if name not in extra}
        return _folded(ours, {name: raw[name] for name in extra}, config, scale, file.path)

    shapes = {name: t for name, t in file.shapes.items() if name not in extra}
    ours = renamed(TensorsFile(file.path, shapes, load), kind.names)
    if "theta" in kind.names.values() or "b_enc" not in ours.shapes:
        return ours
    return TensorsFile(file.path, ours.shapes | {"theta": ours.shapes["b_enc"]}, ours.load)


def _extra(config: LensConfig, file: TensorsFile) -> list[str]:
    """Names of the tensors that are folded into others, each [d_sae]."""
    if ("r_mag" in file.shapes) != (config.architecture == "gated"):
        raise ValueError(
            f"{file.path}: r_mag must be there if and only if the architecture is gated, got "
            f"{config.architecture} and {sorted(file.shapes)}"
        )
    extra = [name for name in ("r_mag", "scaling_factor") if name in file.shapes]
    for name in extra:
        shape, wanted = tuple(file.shapes[name].shape), (sizes(file)["d_sae"],)
        if shape != wanted:
            raise ValueError(
                f"{file.path}: {name} must have shape {wanted}, got {shape}; the file does not fit "
                "its config"
            )
    return extra


def _folded(
    tensors: Tensors, extra: Tensors, config: LensConfig, scale: float | None, path: Path
) -> Tensors:
    """The tensors of a JumpReLU or top-k SAE; a ReLU's θ is 0.

    In SAELens's own order: of a top-k SAE with decoder norms and scaled inputs the features are
    1/scale times those that the checkpoint gave in training; the reconstruction is the same.
    """
    tensors = {"theta": torch.zeros(len(tensors["b_enc"]))} | tensors
    if "r_mag" in extra:
        tensors = folding.from_gate(tensors, extra["r_mag"])
    factors = extra.get("scaling_factor")
    # SAELens wrote factors of 1 for a while.
    if factors is not None and not torch.allclose(factors, torch.ones_like(factors)):
        if not config.finetuning_scaling_factor:
            raise ValueError(
                f"{path}: scaling_factor must be 1 everywhere where {CONFIG_FILE} does not say "
                "finetuning_scaling_factor, got other values; SAELens refuses the file, too"
            )
        tensors = folding.with_factors(tensors, factors)
    if config.apply_b_dec_to_input:
        tensors = folding.without_pre_bias(tensors)
    if scale is not None:
        tensors = folding.of_scaled_input(tensors, scale)
    if config.architecture == "topk" and config.rescale_acts_by_decoder_norm:
        tensors = folding.with_unit_decoder(tensors)
    return tensors


def _check_dtype(config: LensConfig, file: TensorsFile) -> None:
    """Raises ValueError unless the file has the declared dtype. SAELens would round silently."""
    if config.dtype is None:
        return
    declared, where = config.dtype.removeprefix("torch."), file.path.with_name(CONFIG_FILE)
    for name, tensor in file.shapes.items():
        stored = str(tensor.dtype).removeprefix("torch.")
        if stored != declared and tensor.is_floating_point():
            raise ValueError(
                f"{where}: dtype must be {stored}, as {name} is stored, got {shown(declared)}"
            )


def _changed(file: TensorsFile, change: Callable[[Tensors], Tensors]) -> TensorsFile:
    """The file with its tensors changed when they are read."""
    return TensorsFile(file.path, change(file.shapes), lambda: change(file.load()))
