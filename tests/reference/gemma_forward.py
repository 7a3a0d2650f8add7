"""Gemma 2's decoder in float64, written out from its description: slow, obvious, and free of the
code under test.

Shares no code with transformers' model or with `scopeworks.harvest`: it reads weights by name and
knows the formulas.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu

Heads = Callable[[Tensor, dict[str, Tensor], int, Any], Tensor]
"""(normed input, weights, layer, configuration) -> concatenated head outputs."""


def rms_normalised(x: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x²) + eps), without a gain."""
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Gemma's RMSNorm: the gain is 1 + weight."""
    return rms_normalised(x, eps) * (1 + weight)


def rotate(x: Tensor, theta: float, factor: float = 1.0) -> Tensor:
    """Rotary position embedding of [batch, heads, seq, head_dim]: pairs (i, i + head_dim/2), their
    frequencies divided by `factor`."""
    *_, seq, head_dim = x.shape
    half = head_dim // 2
    frequency = theta ** (-torch.arange(half, dtype=torch.float64) * 2 / head_dim) / factor
    angle = torch.arange(seq, dtype=torch.float64)[:, None] * frequency
    first, second = x[..., :half], x[..., half:]
    return torch.cat(
        [
            first * angle.cos() - second * angle.sin(),
            second * angle.cos() + first * angle.sin(),
        ],
        dim=-1,
    )


def visible(seq: int, window: int | None) -> Tensor:
    """[query, key]: keys not in the future and, in sliding layers, less than `window` back."""
    distance = torch.arange(seq)[:, None] - torch.arange(seq)[None, :]
    return (distance >= 0) & (distance < (window or seq + 1))


def heads_out(x: Tensor, weights: dict[str, Tensor], layer: int, config) -> Tensor:
    """Concatenated head outputs [batch, seq, n_heads · head_dim] for the normed input x, before
    W_O.
    """
    batch, seq, _ = x.shape
    own = f"model.layers.{layer}.self_attn."

    def split(name: str, n_heads: int) -> Tensor:
        return (x @ weights[own + name].T).view(batch, seq, n_heads, -1).transpose(1, 2)

    theta = config.rope_parameters["rope_theta"]
    q = rotate(split("q_proj.weight", config.num_attention_heads), theta)
    k = rotate(split("k_proj.weight", config.num_key_value_heads), theta)
    v = split("v_proj.weight", config.num_key_value_heads)
    window = config.sliding_window if layer % 2 == 0 else None
    out = []
    for head in range(config.num_attention_heads):
        shared = head * config.num_key_value_heads // config.num_attention_heads
        scores = q[:, head] @ k[:, shared].mT / math.sqrt(config.query_pre_attn_scalar)
        cap = config.attn_logit_softcapping
        scores = cap * torch.tanh(scores / cap)
        scores = scores.masked_fill(~visible(seq, window), -math.inf)
        out.append(scores.softmax(-1) @ v[:, shared])
    return torch.cat(out, dim=-1)


def layer_sites(
    x: Tensor, weights: dict[str, Tensor], layer: int, config, heads: Heads = heads_out
) -> dict[str, Tensor]:
    """All five kinds of site of one layer, from the residual stream that enters it."""
    own, eps = f"model.layers.{layer}.", config.rms_norm_eps
    attn_out = heads(
        rms_norm(x, weights[own + "input_layernorm.weight"], eps), weights, layer, config
    )
    projected = attn_out @ weights[own + "self_attn.o_proj.weight"].T
    middle = x + rms_norm(projected, weights[own + "post_attention_layernorm.weight"], eps)
    transcoder_in = rms_normalised(middle, eps)
    gained = transcoder_in * (1 + weights[own + "pre_feedforward_layernorm.weight"])
    gate = gelu(gained @ weights[own + "mlp.gate_proj.weight"].T, approximate="tanh")
    hidden = gate * (gained @ weights[own + "mlp.up_proj.weight"].T)
    down = hidden @ weights[own + "mlp.down_proj.weight"].T
    mlp_out = rms_norm(down, weights[own + "post_feedforward_layernorm.weight"], eps)
    return {
        f"attn_out.{layer}": attn_out,
        f"transcoder_in.{layer}": transcoder_in,
        f"mlp_in.{layer}": gained,
        f"mlp_out.{layer}": mlp_out,
        f"resid_post.{layer}": middle + mlp_out,
    }


def double_weights(model) -> dict[str, Tensor]:
    """The model's weights by name, float64."""
    return {name: p.detach().double() for name, p in model.named_parameters()}


def all_sites(model, input_ids: Tensor, heads: Heads = heads_out) -> dict[str, Tensor]:
    """Every site of every layer, float64 [batch, seq, d], from token ids alone."""
    weights, config = double_weights(model), model.config
    x = weights["model.embed_tokens.weight"][input_ids] * math.sqrt(config.hidden_size)
    sites: dict[str, Tensor] = {}
    for layer in range(config.num_hidden_layers):
        sites |= layer_sites(x, weights, layer, config, heads)
        x = sites[f"resid_post.{layer}"]
    return sites


def double_at(kind: str, weights: dict[str, torch.Tensor]) -> None:
    """Changes layer 1's weights so that whatever reads the site's tensor reads it doubled."""
    own = "model.layers.1."
    if kind == "attn_out":
        weights[own + "self_attn.o_proj.weight"] *= 2
    elif kind != "resid_post":
        name = "post_feedforward" if kind == "mlp_out" else "pre_feedforward"
        gain = weights[f"{own}{name}_layernorm.weight"]
        gain.copy_(2 * (1 + gain) - 1)
