"""The decoder block that Gemma 2 and 3 share: its sites, its entries of config.json, its cost.

Owns what is the same in both: RMSNorms with gain 1 + w before and after attention and MLP, grouped
keys and values, a gated MLP, layers with and without a sliding window. What differs is in the
families' own files.
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from ....foreign import Document
from .family import MOST_LAYERS, Id, Scale, SiteModule, Size

Layers = Annotated[
    list[Literal["sliding_attention", "full_attention"]], Field(max_length=MOST_LAYERS)
]


class Rope(Document):
    """Rotary embeddings of the kinds whose frequencies do not depend on the sequence's length."""

    model_config = ConfigDict(extra="forbid")

    rope_type: Literal["default", "linear"] | None = None
    type: Literal["default", "linear"] | None = None
    rope_theta: Scale | None = None
    factor: Scale | None = None


class BlockEntries(Document):
    """The entries of config.json that every family with this block has. Bounds are wide: about a
    hundred times the largest model."""

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
    sliding_window: Annotated[int, Field(ge=1, le=2**30)] = 4096
    layer_types: Layers | None = None
    rope_theta: Scale | None = None
    rope_scaling: Rope | None = None
    hidden_activation: Literal["gelu_pytorch_tanh", "gelu", "gelu_new", "silu", "relu"] | None = (
        None
    )
    attention_bias: bool = False
    tie_word_embeddings: bool = True
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


DECIDES = (
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "query_pre_attn_scalar",
    "sliding_window",
    "layer_types",
    "rope_parameters",
)
"""`Family.decides` of every family with this block."""

COMPILED = (
    "mlp",
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)


def d_model(config: Any) -> int:
    """Width of the residual stream."""
    return config.hidden_size


def d_heads(config: Any) -> int:
    """Width of all heads' outputs side by side."""
    return config.num_attention_heads * config.head_dim


SITES = {
    "attn_out": SiteModule(
        "self_attn.o_proj",
        "input",
        d_heads,
        "blocks.{}.attn.hook_z",
        "model.layers.{}.self_attn.o_proj.input",
        to_stream=("self_attn.o_proj", "post_attention_layernorm"),
    ),
    # The gainless vector is no module's input or output in transformers.
    "transcoder_in": SiteModule(
        "pre_feedforward_layernorm", "gainless", d_model, "blocks.{}.ln2.hook_normalized"
    ),
    # The norm's output (transcoder_in times constants), taken where the MLP reads it: so it has
    # what is spliced in at transcoder_in, whichever of the two was hooked first. TransformerLens's
    # hook_mlp_in is another tensor: the residual stream *before* the norm.
    "mlp_in": SiteModule(
        "mlp",
        "input",
        d_model,
        None,
        "model.layers.{}.pre_feedforward_layernorm.output",
        in_report=False,
    ),
    "mlp_out": SiteModule(
        "post_feedforward_layernorm",
        "output",
        d_model,
        "blocks.{}.hook_mlp_out",
        "model.layers.{}.post_feedforward_layernorm.output",
        to_stream=(),
    ),
    "resid_post": SiteModule(
        "",
        "output",
        d_model,
        "blocks.{}.hook_resid_post",
        "model.layers.{}.output",
        to_stream=(),
    ),
}


def gain(weight: Any) -> Any:
    """What an RMSNorm multiplies by: 1 + w."""
    return 1 + weight


def sequence_bytes(config: Any, context: int, dtype: str, attention: str) -> int:
    """Peak bytes of one sequence's forward pass, beside the weights: an upper bound.

    The residual stream, and the larger of attention and MLP.
    """
    value = 4 if dtype == "float32" else 2
    # The stream in the model's dtype, and a norm's copies of it in float32.
    stream = context * config.hidden_size * (4 * value + 3 * 4)
    heads = context * d_heads(config) * 4 * value  # queries, keys, values, output
    # Eager holds [heads, context, context]: scores before and after soft-cap and mask, and weights,
    # in the model's dtype; the softmax's in float32. The others hold the mask [context, context].
    scores = config.num_attention_heads * (4 * value + 2 * 4) if attention == "eager" else value
    mlp = 3 * context * config.intermediate_size * value  # gate, up, their product
    return stream + max(heads + scores * context**2, mlp)


def flops_per_token(config: Any, context: int, layer: int, kind: str) -> float:
    """Multiplications and additions of one token's forward pass up to a site of a layer.

    2 · (weights used), and 4 · context · n_heads · head_dim per layer for attention's scores and
    their use. All pairs of tokens count, as eager attention computes them, in layers with a window
    too. Norms, biases, soft-caps and rotations are left out.
    """
    d_in, d_out = config.hidden_size, d_heads(config)
    d_keys = config.num_key_value_heads * config.head_dim
    # queries, keys and values; then scores and weighted values: 2 · context · d_out
    before_o = d_in * (d_out + 2 * d_keys) + 2 * context * d_out
    before_mlp = before_o + d_out * d_in
    whole = before_mlp + 3 * d_in * config.intermediate_size  # gate, up, down
    own = {"attn_out": before_o, "transcoder_in": before_mlp, "mlp_in": before_mlp}
    return 2.0 * (layer * whole + own.get(kind, whole))
