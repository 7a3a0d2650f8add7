"""Output tokens and nearest directions of latents, slowly and in float64, from a whole model."""

from typing import Any

import numpy as np
import torch


def logit_effects(model: Any, W_dec: torch.Tensor, kind: str, layer: int) -> np.ndarray:
    """[d_sae, vocabulary]: what a decoder row adds to every logit, all norms' scales left out."""
    rows = W_dec.double()
    block = model.model.layers[layer]
    if kind == "attn_out":
        rows = rows @ block.self_attn.o_proj.weight.double().T
        rows = rows * (1 + block.post_attention_layernorm.weight.double())
    rows = rows * (1 + model.model.norm.weight.double())
    return (rows @ model.lm_head.weight.double().T).numpy()


def ranked(values: np.ndarray, k: int) -> list[int]:
    """Indices of the k largest, ties by the lower index."""
    return sorted(range(len(values)), key=lambda i: (-values[i], i))[:k]


def cosines(a: torch.Tensor, b: torch.Tensor) -> np.ndarray:
    """[n, m] of all pairs of rows."""
    a, b = a.double(), b.double()
    return ((a / a.norm(dim=1, keepdim=True)) @ (b / b.norm(dim=1, keepdim=True)).T).numpy()
