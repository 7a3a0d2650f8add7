"""Turns other kinds of SAE into ours: f = relu(z) · 1[z > θ] on raw activations.

Owns the arithmetic; a format decides which functions a file needs. Every function takes and returns
tensors by name. None changes a reconstruction, and none a feature except where it says so. Products
are float64, in blocks.
"""

import torch
from torch import Tensor

from .reading import Tensors

_BLOCK_LATENTS = 4096


def from_gate(tensors: Tensors, r_mag: Tensor) -> Tensors:
    """A gated SAE (arXiv 2404.16014) with b_mag as b_enc and b_gate as theta.

        f = 1[u + b_gate > 0] · relu(exp(r_mag) · u + b_mag),  u = x @ W_enc

    With z = exp(r_mag) · u + b_mag its gate is z > b_mag − exp(r_mag) · b_gate: a JumpReLU.
    """
    scale = r_mag.double().exp()
    theta = tensors["b_enc"].double() - scale * tensors["theta"].double()
    return tensors | {"W_enc": tensors["W_enc"].float() * scale.float(), "theta": theta.float()}


def without_pre_bias(tensors: Tensors) -> Tensors:
    """An SAE whose encoder reads x − b_dec: b_enc' = b_enc − b_dec @ W_enc."""
    b_enc, b_dec = tensors["b_enc"].double(), tensors["b_dec"].double()
    shift = [b_dec @ part.double() for part in tensors["W_enc"].split(_BLOCK_LATENTS, dim=1)]
    return tensors | {"b_enc": (b_enc - torch.cat(shift)).float()}


def of_scaled_input(tensors: Tensors, factor: float) -> Tensors:
    """An SAE that reads factor · x and whose output is divided by factor; features stay the same.

    W_enc' = factor · W_enc,  W_dec' = W_dec/factor,  b_dec' = b_dec/factor.
    """
    W_dec, b_dec = (tensors[name].float() / factor for name in ("W_dec", "b_dec"))
    return tensors | {"W_enc": tensors["W_enc"].float() * factor, "W_dec": W_dec, "b_dec": b_dec}


def with_unit_decoder(tensors: Tensors) -> Tensors:
    """An SAE that multiplies each pre-activation by the norm n of its row in W_dec and divides the
    feature by n before decoding: W_enc' = W_enc · n,  b_enc' = b_enc · n,  W_dec' = W_dec/n.

    n is that of the tensors given: after `of_scaled_input` norms and features are 1/factor times
    those in training, as in SAELens after it has folded the scale in.
    """
    W_dec = tensors["W_dec"].float()
    norms = W_dec.norm(dim=1)
    return tensors | {
        "W_enc": tensors["W_enc"].float() * norms,
        "b_enc": tensors["b_enc"].float() * norms,
        "W_dec": W_dec / torch.where(norms > 0, norms, 1)[:, None],
    }


def with_factors(tensors: Tensors, factors: Tensor) -> Tensors:
    """An SAE that multiplies each feature by a factor before decoding: W_dec' = factors · W_dec."""
    return tensors | {"W_dec": tensors["W_dec"].float() * factors.float()[:, None]}
