"""Gemma 2: what it does not share with Gemma 3 (`gemma_block` has what they share).

Soft-caps on attention scores and logits, every other layer with a sliding window
(arXiv 2408.00118).
"""

from typing import Any

from . import gemma_block as block
from .family import Family, Scale


class Gemma2Entries(block.BlockEntries):
    """The entries of a Gemma 2's config.json that decide what it computes."""

    attn_logit_softcapping: Scale | None = None
    final_logit_softcapping: Scale | None = None
    rope_parameters: block.Rope | None = None
    use_bidirectional_attention: bool | None = None


def _classes() -> tuple[Any, Any]:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    return Gemma2Config, Gemma2ForCausalLM


def _released(layers: int, d_model: int, mlp: int, heads: int, kv_heads: int, head: int) -> Any:
    """A size of the Gemma 2 report's Table 1."""
    return {
        "vocab_size": 256_000,
        "num_hidden_layers": layers,
        "hidden_size": d_model,
        "intermediate_size": mlp,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head,
    }


GEMMA2 = Family(
    title="Gemma 2",
    model_types=("gemma2",),
    classes=_classes,
    entries=Gemma2Entries,
    decides=(*block.DECIDES, "attn_logit_softcapping", "hidden_activation", "rms_norm_eps"),
    attention=("eager", "flex_attention", "flash_attention_2"),
    why_attention="others leave out the soft-cap",
    sites=block.SITES,
    compiled=block.COMPILED,
    final_norm="norm",
    soft_cap="final_logit_softcapping",
    gain=block.gain,
    sequence_bytes=block.sequence_bytes,
    flops_per_token=block.flops_per_token,
    released={
        "google/gemma-2-2b": _released(26, 2304, 9216, 8, 4, 256),
        "google/gemma-2-9b": _released(42, 3584, 14336, 16, 8, 256),
        "google/gemma-2-27b": _released(46, 4608, 36864, 32, 16, 128),
    },
    tuned={f"google/gemma-2-{size}": f"google/gemma-2-{size}-it" for size in ("2b", "9b", "27b")},
)
