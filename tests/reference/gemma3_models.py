"""Small Gemma 3 models with random weights, of shapes unlike any released one."""

from typing import Any

import torch

from .gemma3_forward import Attention
from .gemma_models import VOCABULARY

SHAPES = {
    # name: (d_model, heads, kv heads, head_dim, layers), attention
    "odd_heads": ((36, 3, 1, 20, 5), Attention(2, 5, 5_000.0, 100.0, 8.0)),
    "one_layer": ((35, 5, 5, 6, 1), Attention(6, 4, 1e6, 10_000.0, 1.0)),
    "all_global": ((33, 3, 3, 12, 3), Attention(1, 3, 2_000.0, 10.0, 3.0)),
    "grouped": ((32, 4, 2, 16, 4), Attention(3, 3, 1_000.0, 50.0, 1.0)),
}


def text_entries(name: str) -> dict[str, Any]:
    """What config.json says, as the released ones write it."""
    (d_model, heads, kv_heads, head_dim, layers), attention = SHAPES[name]
    scaling = {"rope_type": "linear", "factor": attention.factor}
    return {
        "model_type": "gemma3_text",
        "vocab_size": VOCABULARY,
        "hidden_size": d_model,
        "intermediate_size": 3 * d_model,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "query_pre_attn_scalar": head_dim + 1,
        "sliding_window": attention.window,
        "sliding_window_pattern": attention.pattern,
        "max_position_embeddings": 64,
        "rope_theta": attention.global_theta,
        "rope_local_base_freq": attention.local_theta,
        "rope_scaling": scaling if attention.factor != 1 else None,
    }


def build_gemma3(name: str, seed: int = 0, implementation: str = "eager") -> Any:
    """A random `Gemma3ForCausalLM` whose norm gains and head outputs are far from trivial."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    config = Gemma3TextConfig(**text_entries(name))
    config._attn_implementation = implementation
    torch.manual_seed(seed)
    return randomised(Gemma3ForCausalLM(config))


def build_seeing(name: str, seed: int = 0) -> Any:
    """A random `Gemma3ForConditionalGeneration` with the language model of `build_gemma3`."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 4,
    }
    config = Gemma3Config(
        text_config=text_entries(name),
        vision_config=vision,
        mm_tokens_per_image=4,
        image_token_index=VOCABULARY - 1,
    )
    model = Gemma3ForConditionalGeneration(config)
    own = build_gemma3(name, seed).state_dict()
    own = {k.replace("model.", "model.language_model.", 1): v for k, v in own.items()}
    missing, unexpected = model.load_state_dict(own, strict=False)
    assert not unexpected and all("vision" in k or "multi_modal" in k for k in missing)
    return model.eval().requires_grad_(False)


def randomised(model: Any) -> Any:
    """The model with weights of which none is near what it is initialised with."""
    model = model.eval().requires_grad_(False)
    for name, p in model.named_parameters():
        p.normal_(std=0.3 if "norm" in name else p.shape[-1] ** -0.5)
    return model
