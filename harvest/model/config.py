"""The configuration of a model: what config.json may hold, checked before transformers reads it.

Owns types and bounds. transformers is given the entries named here and no others: some that have
nothing to do with Gemma 2 make it hang (10^9 labels) or fetch code (attention kernels of the hub).
Whether the weights fit is `weights`' business.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from ...foreign import Document, validated
from .files import explained, read_json

if TYPE_CHECKING:
    from transformers import Gemma2Config

_MOST_LAYERS = 512

Size = Annotated[int, Field(ge=1, le=2**22)]
Id = Annotated[int, Field(ge=0, lt=2**22)]
Scale = Annotated[float, Field(gt=0, le=1e15)]
Layers = Annotated[
    list[Literal["sliding_attention", "full_attention"]], Field(max_length=_MOST_LAYERS)
]


class Rope(Document):
    """Rotary embeddings; the kinds whose frequencies do not depend on the sequence's length."""

    model_config = ConfigDict(extra="forbid")

    rope_type: Literal["default", "linear"] | None = None
    type: Literal["default", "linear"] | None = None
    rope_theta: Scale | None = None
    factor: Scale | None = None


class ModelConfig(Document):
    """The entries of a Gemma 2's config.json that decide what it computes. Bounds are wide: about
    a hundred times the largest Gemma 2."""

    vocab_size: Size
    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: int = Field(ge=1, le=_MOST_LAYERS)
    num_key_value_heads: int = Field(ge=1, le=2**12)
    num_attention_heads: int = Field(ge=1, le=2**12)
    head_dim: int = Field(ge=1, le=2**14)
    max_position_embeddings: int = Field(ge=1, le=2**30)
    query_pre_attn_scalar: Size
    rms_norm_eps: float = Field(gt=0, lt=1)
    sliding_window: Annotated[int, Field(ge=1, le=2**30)] | None = None
    layer_types: Layers | None = None
    attn_logit_softcapping: Scale | None = None
    final_logit_softcapping: Scale | None = None
    rope_theta: Scale | None = None
    rope_parameters: Rope | None = None
    rope_scaling: Rope | None = None
    hidden_activation: Literal["gelu_pytorch_tanh", "gelu", "gelu_new", "silu", "relu"] | None = (
        None
    )
    attention_bias: bool = False
    tie_word_embeddings: bool = True
    use_bidirectional_attention: bool | None = None
    use_cache: bool = True
    bos_token_id: Id | None = None
    eos_token_id: Id | list[Id] | None = None
    pad_token_id: Id | None = None

    @field_validator("layer_types")
    @classmethod
    def _check_layers(cls, value: list[str] | None, info: ValidationInfo) -> list[str] | None:
        layers = info.data.get("num_hidden_layers")
        if value is not None and layers is not None and len(value) != layers:
            raise ValueError(f"must name {layers} layers, as num_hidden_layers says")
        return value

    @field_validator("num_attention_heads")
    @classmethod
    def _check_heads(cls, value: int, info: ValidationInfo) -> int:
        shared = info.data.get("num_key_value_heads")
        if shared is not None and value % shared:
            raise ValueError(f"must be a multiple of num_key_value_heads, {shared}")
        return value


def read_config(folder: Path, name: str) -> "Gemma2Config":
    """The configuration of a Gemma 2, as transformers has it.

    Raises:
        ValueError: it is another model's, or holds what no Gemma 2's does.
    """
    path = folder / "config.json"
    document = read_json(path)
    if (family := document.get("model_type")) != "gemma2":
        raise ValueError(
            f"model must be a Gemma 2, got {name} with model_type {str(family)[:60]!r}; "
            "other decoder families have other sites"
        )
    if document.get("quantization_config"):
        raise ValueError(
            f"{path} must not name a quantization_config, got one; pass the model's bfloat16 or "
            "float32 weights"
        )
    checked = validated(ModelConfig, document, str(path)).model_fields_set
    from transformers import Gemma2Config

    with explained(name):
        return cast("Gemma2Config", Gemma2Config(**{name: document[name] for name in checked}))
