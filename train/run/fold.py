"""From training's scaled units to raw activations: folding the normalisers and the pre-encoder
bias.

Training computes z = (x/C − b_dec) @ W_enc + b_enc and x̂/C = f @ W_dec + b_dec. On raw inputs,
without scaling or subtraction, the same SAE is (Gemma Scope report §3)

    b_enc' = C·b_enc − C·(b_dec @ W_enc),  b_dec' = C·b_dec,  θ' = C·θ,  W_enc and W_dec unchanged,
    f' = C·f.

A transcoder has no pre-encoder bias but two normalisers, C of its input and C_t of its target. Its
decoder rows keep their unit norm, so the ratio goes into the encoder: W_enc' = (C_t/C)·W_enc,
b_enc' = C_t·b_enc, θ' = C_t·θ, b_dec' = C_t·b_dec, W_skip' = (C_t/C)·W_skip, f' = C_t·f.
"""

import torch
from torch import Tensor

from ..kernels import Parameters, Share

_BLOCK_LATENTS = 1024  # of W_enc, so that no float64 copy of the whole of it is held


def fold(
    parameters: Parameters,
    normaliser: float,
    target_normaliser: float,
    pre_bias: bool,
    share: Share | None = None,
) -> dict[str, Tensor]:
    """The tensors of the folded SAE, float32, computed in float64.

    Works block by block within a shard, so that a rank gets the same bits as a process alone. W_dec
    is shared with the parameters. The only large new tensor is W_enc, with the parameters' layout:
    a latent's encoder is one row in memory.

    Args:
        parameters: trained parameters in scaled units.
        normaliser: C of the input site.
        target_normaliser: C of the target site; equals `normaliser` for an SAE.
        pre_bias: whether the encoder saw x − b_dec (SAEs) or x (transcoders).
        share: the latents that `parameters` holds; by default all.
    """
    p, ratio = parameters, target_normaliser / normaliser
    share, b_dec = share or Share.whole(p.d_sae), p.b_dec.double()
    W_enc = torch.empty(p.d_sae, p.d_in, device=p.W_enc.device).t()
    b_enc = p.b_enc.to(torch.float64, copy=True)
    for shard in map(share.latents, share.shards()):
        for start in range(shard.start, shard.stop, _BLOCK_LATENTS):
            block = slice(start, min(start + _BLOCK_LATENTS, shard.stop))
            exact = p.W_enc[:, block].double()
            W_enc[:, block] = ratio * exact
            if pre_bias:
                b_enc[block] -= b_dec @ exact
    folded = {
        "W_enc": W_enc,
        "b_enc": target_normaliser * b_enc,
        "W_dec": p.W_dec,
        "b_dec": target_normaliser * b_dec,
        "theta": target_normaliser * p.theta.double(),
    }
    if p.W_skip is not None:
        folded["W_skip"] = ratio * p.W_skip.double()
    return {name: t.detach().float() for name, t in folded.items()}
