"""From training's scaled units to raw activations: folding the normalisers and the pre-encoder
bias.

Training computes z = (x/C − b_dec) @ W_enc + b_enc and x̂/C = f @ W_dec + b_dec. On raw inputs,
without scaling or subtraction, the same SAE is (Gemma Scope report §3; SPEC.md §2)

    b_enc' = C·b_enc − C·(b_dec @ W_enc),  b_dec' = C·b_dec,  θ' = C·θ,  W_enc and W_dec unchanged,
    f' = C·f.

A transcoder has no pre-encoder bias but two normalisers, C of its input and C_t of its target. Its
decoder rows keep their unit norm, so the ratio goes into the encoder: W_enc' = (C_t/C)·W_enc,
b_enc' = C_t·b_enc, θ' = C_t·θ, b_dec' = C_t·b_dec, W_skip' = (C_t/C)·W_skip, f' = C_t·f.
"""

from torch import Tensor

from .kernels.state import Parameters


def fold(
    parameters: Parameters, normaliser: float, target_normaliser: float, pre_bias: bool
) -> dict[str, Tensor]:
    """The tensors of the folded SAE, float32 and contiguous; computed in float64.

    Args:
        parameters: trained parameters in scaled units.
        normaliser: C of the input site.
        target_normaliser: C of the target site; equals `normaliser` for an SAE.
        pre_bias: whether the encoder saw x − b_dec (SAEs) or x (transcoders).
    """
    p = parameters
    W_enc, b_dec = p.W_enc.double(), p.b_dec.double()
    b_enc = p.b_enc.double() - (b_dec @ W_enc if pre_bias else 0)
    ratio = target_normaliser / normaliser
    folded = {
        "W_enc": ratio * W_enc,
        "b_enc": target_normaliser * b_enc,
        "W_dec": p.W_dec,
        "b_dec": target_normaliser * b_dec,
        "theta": target_normaliser * p.theta.double(),
    }
    if p.W_skip is not None:
        folded["W_skip"] = ratio * p.W_skip.double()
    return {name: t.detach().float().contiguous() for name, t in folded.items()}
