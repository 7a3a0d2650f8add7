"""Gemma 3: what it does not share with Gemma 2 (`gemma_block` has what they share).

RMSNorms of queries and keys; no soft-cap; five layers with a sliding window, then one without.
Rotary embeddings have two bases: a local one in layers with a window, a global one in the others.
The larger sizes divide the global base's frequencies by 8 (arXiv 2503.19786).

Models that also see images (`Gemma3ForConditionalGeneration`) are taken by their language model:
neither the vision tower nor the projector behind it is loaded.
"""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from ....foreign import Document
from . import gemma_block as block
from .family import Family, Scale, Size


class Ropes(Document):
    """Rotary embeddings by type of layer."""

    model_config = ConfigDict(extra="forbid")

    full_attention: block.Rope | None = None
    sliding_attention: block.Rope | None = None


class Gemma3Entries(block.BlockEntries):
    """The entries of a Gemma 3's config.json that decide what it computes.

    Released files leave out entries that have the defaults of transformers' `Gemma3TextConfig`,
    which are the defaults here. Soft-caps and attention to later tokens must be absent: no Gemma 3
    has them, and transformers ignores them, or computes them in only one of its two classes.
    """

    vocab_size: Size = 262_208
    num_key_value_heads: int = Field(default=4, ge=1, le=2**12)
    num_attention_heads: int = Field(default=8, ge=1, le=2**12, validate_default=True)
    head_dim: int = Field(default=256, ge=1, le=2**14)
    max_position_embeddings: int = Field(default=131_072, ge=1, le=2**30)
    query_pre_attn_scalar: Size = 256
    rms_norm_eps: float = Field(default=1e-6, gt=0, lt=1)
    sliding_window_pattern: int = Field(default=6, ge=1, le=2**10)
    rope_local_base_freq: Scale | None = None
    rope_parameters: Ropes | None = None
    attn_logit_softcapping: None = None
    final_logit_softcapping: None = None
    use_bidirectional_attention: Literal[False] | None = None


def _classes() -> tuple[Any, Any]:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    return Gemma3TextConfig, Gemma3ForCausalLM


def _released(layers: int, d_model: int, mlp: int, heads: int, kv_heads: int, head: int) -> Any:
    """A size of the Gemma 3 report's Table 1, or the 270M one. Models without a vision tower have
    64 tokens fewer."""
    sees_images = d_model > 2000
    longest = 131_072 if sees_images else 32_768
    return {
        "vocab_size": 262_208 if sees_images else 262_144,
        "num_hidden_layers": layers,
        "hidden_size": d_model,
        "intermediate_size": mlp,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head,
        "max_position_embeddings": longest,
    }


_RELEASED = {
    "google/gemma-3-270m": _released(18, 640, 2048, 4, 1, 256),
    "google/gemma-3-1b-pt": _released(26, 1152, 6912, 4, 1, 256),
    "google/gemma-3-4b-pt": _released(34, 2560, 10240, 8, 4, 256),
    "google/gemma-3-12b-pt": _released(48, 3840, 15360, 16, 8, 256),
    "google/gemma-3-27b-pt": _released(62, 5376, 21504, 32, 16, 128),
}

GEMMA3 = Family(
    title="Gemma 3",
    model_types=("gemma3_text", "gemma3"),
    classes=_classes,
    entries=Gemma3Entries,
    decides=(*block.DECIDES, "hidden_activation", "rms_norm_eps"),
    attention=("sdpa", "eager", "flex_attention", "flash_attention_2"),
    why_attention="others are not known to compute the sliding windows",
    sites=block.SITES,
    compiled=(*block.COMPILED, "self_attn.q_norm", "self_attn.k_norm"),
    final_norm="norm",
    gain=block.gain,
    sequence_bytes=block.sequence_bytes,
    flops_per_token=block.flops_per_token,
    released=_RELEASED,
    tuned={base: f"{base.removesuffix('-pt')}-it" for base in _RELEASED},
    nested="text_config",
    ignored_weights=r"(?:model\.)?(?:vision_tower|multi_modal_projector)\.|.*rotary_emb\.",
)
