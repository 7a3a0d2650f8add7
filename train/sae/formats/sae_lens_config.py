"""Reads a `cfg.json`; older names and values are translated to SAELens 6's.

Owns the architectures that can be read, and the SAE's origin. `sae_lens` reads the tensors.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field, FiniteFloat, PositiveInt

from ....foreign import Document
from .shared.names import layer_of_hook, may_mean, site_of_hook
from .shared.reading import agreed, shown


@dataclass(frozen=True)
class Kind:
    """An architecture: its tensors' names that differ from ours, and whether it is a transcoder and
    has a skip connection."""

    names: dict[str, str] = field(default_factory=dict)
    transcoder: bool = False
    skip: bool = False


_THRESHOLD = {"threshold": "theta"}
ARCHITECTURES = {
    "standard": Kind(),
    "topk": Kind(),
    "gated": Kind({"b_mag": "b_enc", "b_gate": "theta"}),
    "jumprelu": Kind(_THRESHOLD),
    "transcoder": Kind({}, True),
    "skip_transcoder": Kind({}, True, True),
    "jumprelu_transcoder": Kind(_THRESHOLD, True),
    "jumprelu_skip_transcoder": Kind(_THRESHOLD, True, True),
}


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


class _ActivationArguments(Document):
    k: FiniteFloat | None = None


class LensConfig(_Origin):
    """The part of cfg.json that affects the numbers or the origin, with SAELens's defaults."""

    architecture: str = "standard"
    d_in: PositiveInt | None = None
    d_sae: PositiveInt | None = None
    d_out: PositiveInt | None = None
    dtype: str | None = None
    k: FiniteFloat | None = None
    rescale_acts_by_decoder_norm: bool = False
    apply_b_dec_to_input: bool = True
    normalize_activations: str | bool | None = None
    activation_fn: str | None = None
    activation_fn_str: str | None = None
    activation_fn_kwargs: _ActivationArguments | None = None
    finetuning_scaling_factor: bool | None = None
    reshape_activations: Literal["none", "hook_z"] | None = None
    hook_point: str | None = None
    hook_point_head_index: int | None = None
    hook_layer: int | None = None
    metadata: _Origin = Field(default_factory=_Origin)


def as_since_6(config: LensConfig, where: str) -> LensConfig:
    """The config with older names and values translated to SAELens 6's."""
    changes: dict[str, Any] = {}
    for name in ("activation_fn", "activation_fn_str"):
        value = getattr(config, name)
        if value == "topk":
            changes["architecture"] = "topk"
        elif value not in (None, "relu"):
            raise ValueError(f"{where}: {name} must be relu or topk, got {shown(value)}")
    if config.k is None and config.activation_fn_kwargs is not None:
        changes["k"] = config.activation_fn_kwargs.k
    if isinstance(config.normalize_activations, bool) or config.normalize_activations is None:
        scaled = bool(config.normalize_activations)
        changes["normalize_activations"] = "expected_average_only_in" if scaled else "none"
    if config.hook_head_index is None:
        changes["hook_head_index"] = config.hook_point_head_index
    return config.model_copy(update=changes)


def kind_of(config: LensConfig, where: str) -> Kind:
    """The architecture; ValueError if it is unknown, or if the SAE reads a single head."""
    kind = ARCHITECTURES.get(config.architecture)
    if kind is None:
        hint = ""
        if config.architecture.endswith("batchtopk"):
            hint = "; SAELens's save_inference_model writes such an SAE as jumprelu"
        raise ValueError(
            f"{where}: architecture must be one of {', '.join(ARCHITECTURES)}, "
            f"got {shown(config.architecture)}{hint}"
        )
    if kind.transcoder and config.apply_b_dec_to_input:
        raise ValueError(
            f"{where}: apply_b_dec_to_input must be false for a transcoder, whose b_dec is its "
            "target's (left out it means true); SAELens refuses the file, too"
        )
    if config.hook_head_index is not None or config.metadata.hook_head_index is not None:
        raise ValueError(f"{where}: hook_head_index must be null: SAEs here read all heads at once")
    return kind


def k_of(config: LensConfig, where: str) -> int | None:
    """A top-k SAE's k, None for the others."""
    if config.architecture != "topk":
        return None
    if config.k is None or config.k < 1 or config.k != int(config.k):
        raise ValueError(
            f"{where}: k must be a whole number from 1 on for architecture topk, got {config.k}"
        )
    return int(config.k)


def facts_of(config: LensConfig, kind: Kind, where: str) -> dict[str, Any]:
    """Origin, from metadata or the config's own keys; ValueError if they differ."""
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
    if kind.transcoder:
        return facts | {"transcoder": True}
    if known["hook_name_out"] not in (None, known["hook_name"]):
        raise ValueError(
            f"{where}: hook_name_out must not be there for architecture {config.architecture}, "
            f"which predicts what it reads, got {shown(known['hook_name_out'])}"
        )
    return facts | {"target_site": None}


def _site(lens: str | None, hugging_face: str | None, where: str) -> str | None:
    """The site that two hook names mean; either may be missing or unknown."""
    names = [name for name in (lens, hugging_face) if name]
    site = next((site for site in map(site_of_hook, names) if site is not None), None)
    if site is not None and not all(may_mean(name, site) for name in names):
        raise ValueError(
            f"{where}: hooks must name one site, got {shown(lens)} and {shown(hugging_face)}"
        )
    return site
