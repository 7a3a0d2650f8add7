"""Other kinds of SAE as the one that is here: f = relu(z) · 1[z > θ] on raw activations.

Owns the arithmetic. Every function takes and gives tensors by name and changes no reconstruction,
and no feature either, but for the scale of some that a function names; what a file asks for is its
format's. Products are float64, in blocks.
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
    """An SAE that reads factor · x and whose output is divided by it: the features stay."""
    W_dec, b_dec = (tensors[name].float() / factor for name in ("W_dec", "b_dec"))
    return tensors | {"W_enc": tensors["W_enc"].float() * factor, "W_dec": W_dec, "b_dec": b_dec}


def with_unit_decoder(tensors: Tensors) -> Tensors:
    """An SAE whose pre-activations count times their row's norm in W_dec, which divides them again
    before they are decoded.

    The norms are those of the tensors as they are given: after `of_scaled_input` they are 1/factor
    times what they were, and so are the features, as in SAELens after it has folded the scale in.
    """
    W_dec = tensors["W_dec"].float()
    norms = W_dec.norm(dim=1)
    return tensors | {
        "W_enc": tensors["W_enc"].float() * norms,
        "b_enc": tensors["b_enc"].float() * norms,
        "W_dec": W_dec / torch.where(norms > 0, norms, 1)[:, None],
    }


def with_factors(tensors: Tensors, factors: Tensor) -> Tensors:
    """An SAE whose features are multiplied by a factor each before they are decoded."""
    return tensors | {"W_dec": tensors["W_dec"].float() * factors.float()[:, None]}
