"""Gemma 2: what its configuration may hold, where its sites are, what it computes and how much.

Soft-caps on attention scores and logits, RMSNorms with gain 1 + w before and after attention and
MLP, every other layer with a sliding window (arXiv 2408.00118).
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from ....foreign import Document
from .family import MOST_LAYERS, Family, Id, Scale, SiteModule, Size

Layers = Annotated[
    list[Literal["sliding_attention", "full_attention"]], Field(max_length=MOST_LAYERS)
]


class Rope(Document):
    """Rotary embeddings; the kinds whose frequencies do not depend on the sequence's length."""

    model_config = ConfigDict(extra="forbid")

    rope_type: Literal["default", "linear"] | None = None
    type: Literal["default", "linear"] | None = None
    rope_theta: Scale | None = None
    factor: Scale | None = None


class Gemma2Entries(Document):
    """The entries of a Gemma 2's config.json that decide what it computes. Bounds are wide: about
    a hundred times the largest Gemma 2."""

    vocab_size: Size
    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: int = Field(ge=1, le=MOST_LAYERS)
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


def _classes() -> tuple[Any, Any]:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    return Gemma2Config, Gemma2ForCausalLM


def _d_model(config: Any) -> int:
    return config.hidden_size


def _d_heads(config: Any) -> int:
    return config.num_attention_heads * config.head_dim


def _sequence_bytes(config: Any, context: int, dtype: str) -> int:
    """The residual stream with a norm's float32 copies, and the larger of attention (eager: scores,
    soft-capped scores and weights, softmax in float32) and MLP (gate, up, product)."""
    value = 4 if dtype == "float32" else 2
    stream = context * config.hidden_size * (4 * value + 3 * 4)
    heads = context * _d_heads(config) * 4 * value
    scores = config.num_attention_heads * context**2 * (4 * value + 2 * 4)
    return stream + max(heads + scores, 3 * context * config.intermediate_size * value)


def _flops_per_token(config: Any, context: int, layer: int, kind: str) -> float:
    """Two for every weight used, and 4 · context · n_heads · head_dim a layer for the attention
    scores and their use (all pairs, as eager attention computes them). Norms, biases, soft-caps and
    rotations are left out."""
    d_model, d_heads = config.hidden_size, _d_heads(config)
    d_keys = config.num_key_value_heads * config.head_dim
    before_o = d_model * (d_heads + 2 * d_keys) + 2 * context * d_heads
    before_mlp = before_o + d_heads * d_model
    whole = before_mlp + 3 * d_model * config.intermediate_size
    own = {"attn_out": before_o, "transcoder_in": before_mlp, "mlp_in": before_mlp}
    return 2.0 * (layer * whole + own.get(kind, whole))


GEMMA2 = Family(
    title="Gemma 2",
    model_types=("gemma2",),
    classes=_classes,
    entries=Gemma2Entries,
    decides=(
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "query_pre_attn_scalar",
        "sliding_window",
        "layer_types",
        "rope_parameters",
        "attn_logit_softcapping",
        "hidden_activation",
        "rms_norm_eps",
    ),
    attention=("eager", "flex_attention", "flash_attention_2"),
    why_attention="others leave out the soft-cap",
    sites={
        "attn_out": SiteModule(
            "self_attn.o_proj",
            "input",
            _d_heads,
            "blocks.{}.attn.hook_z",
            "model.layers.{}.self_attn.o_proj.input",
            to_stream=("self_attn.o_proj", "post_attention_layernorm"),
        ),
        # The gainless vector is no module's input or output in transformers.
        "transcoder_in": SiteModule(
            "pre_feedforward_layernorm", "gainless", _d_model, "blocks.{}.ln2.hook_normalized"
        ),
        # The norm's output, taken where it is read: what is spliced in at transcoder_in is in it
        # whichever of the two was hooked first. TransformerLens's hook_mlp_in is the residual
        # stream *before* the norm: another tensor. It is transcoder_in times constants.
        "mlp_in": SiteModule(
            "mlp",
            "input",
            _d_model,
            None,
            "model.layers.{}.pre_feedforward_layernorm.output",
            in_report=False,
        ),
        "mlp_out": SiteModule(
            "post_feedforward_layernorm",
            "output",
            _d_model,
            "blocks.{}.hook_mlp_out",
            "model.layers.{}.post_feedforward_layernorm.output",
            to_stream=(),
        ),
        "resid_post": SiteModule(
            "",
            "output",
            _d_model,
            "blocks.{}.hook_resid_post",
            "model.layers.{}.output",
            to_stream=(),
        ),
    },
    compiled=(
        "mlp",
        "input_layernorm",
        "post_attention_layernorm",
        "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
    ),
    final_norm="norm",
    soft_cap="final_logit_softcapping",
    gain=lambda weight: 1 + weight,
    gain_types=("gemma3", "gemma3_text"),
    sequence_bytes=_sequence_bytes,
    flops_per_token=_flops_per_token,
)
