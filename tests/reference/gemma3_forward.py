"""Gemma 3's decoder in float64, written out from its description: slow, obvious, and free of the
code under test.

What differs from Gemma 2 is in its attention: norms of queries and keys, no soft-cap, and two bases
of rotary embeddings, by whether a layer has a window. Which layers have one, the bases and the
factor are given by whoever made the model: nothing is read from transformers' configuration but
sizes.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .gemma_forward import all_sites, double_weights, rms_norm, rotate, visible


@dataclass(frozen=True)
class Attention:
    """What a Gemma 3's attention is like."""

    pattern: int
    """Every so many layers one has no window."""
    window: int
    global_theta: float
    local_theta: float
    factor: float
    """The global frequencies are divided by it."""

    def is_global(self, layer: int) -> bool:
        """Whether a layer, counted from 0, has no window."""
        return layer % self.pattern == self.pattern - 1

    def heads_out(self, x: Tensor, weights: dict[str, Tensor], layer: int, config) -> Tensor:
        """Concatenated head outputs [batch, seq, n_heads · head_dim] for the normed input x."""
        batch, seq, _ = x.shape
        own, eps = f"model.layers.{layer}.self_attn.", config.rms_norm_eps

        def split(name: str, n_heads: int) -> Tensor:
            return (x @ weights[f"{own}{name}_proj.weight"].T).view(batch, seq, n_heads, -1)

        def turned(name: str, n_heads: int) -> Tensor:
            normed = rms_norm(split(name, n_heads), weights[f"{own}{name}_norm.weight"], eps)
            if self.is_global(layer):
                return rotate(normed.transpose(1, 2), self.global_theta, self.factor)
            return rotate(normed.transpose(1, 2), self.local_theta)

        n_heads, n_shared = config.num_attention_heads, config.num_key_value_heads
        q, k = turned("q", n_heads), turned("k", n_shared)
        v = split("v", n_shared).transpose(1, 2)
        seen = visible(seq, None if self.is_global(layer) else self.window)
        out = []
        for head in range(n_heads):
            shared = head * n_shared // n_heads
            scores = q[:, head] @ k[:, shared].mT / math.sqrt(config.query_pre_attn_scalar)
            out.append(scores.masked_fill(~seen, -math.inf).softmax(-1) @ v[:, shared])
        return torch.cat(out, dim=-1)

    def sites(self, model, input_ids: Tensor) -> dict[str, Tensor]:
        """Every site of every layer, float64 [batch, seq, d], from token ids alone."""
        return all_sites(model, input_ids, self.heads_out)

    def logits(self, model, input_ids: Tensor) -> Tensor:
        """[batch, seq, vocabulary], by the embedding's own rows."""
        weights, config = double_weights(model), model.config
        last = self.sites(model, input_ids)[f"resid_post.{config.num_hidden_layers - 1}"]
        normed = rms_norm(last, weights["model.norm.weight"], config.rms_norm_eps)
        return normed @ weights["model.embed_tokens.weight"].T
