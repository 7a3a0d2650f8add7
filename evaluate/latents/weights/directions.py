"""What the weights alone say of an SAE's latents.

Owns which directions are compared: decoder rows, and encoder columns where a transcoder's two sides
differ.
"""

from collections.abc import Mapping

import torch

from ....train.sae.sae import SAE
from ..contents import Directions
from .logits import effects, none_of
from .nearest import nearest
from .plane import plane
from .readout import Readout
from .stream import stream_of


def directions(
    sae: SAE,
    readout: Readout,
    *,
    site: str | None = None,
    others: Mapping[str, SAE] | None = None,
    top: int = 10,
    bins: int = 32,
    neighbours: int = 8,
    neighbours_of_others: int = 3,
    device: torch.device | str = "cpu",
) -> Directions:
    """Output tokens, nearest directions and a map of all latents.

    Args:
        sae: the SAE or transcoder.
        readout: of the language model, see `readout.read_readout`.
        site: that the SAE reads, where its files do not say.
        others: name -> SAE whose decoder rows have the same width.
        top: output tokens on either side.
        bins: of the histogram of effects.
        neighbours: nearest latents.
        neighbours_of_others: nearest latents of each other SAE.
        device: where products are computed.

    Raises:
        ValueError: the SAE does not fit the model, or another SAE does not fit it; one line.
    """
    others = others or {}
    for name, other in others.items():
        if other.config.d_out != sae.config.d_out:
            raise ValueError(
                f"other SAE {name} must have decoder rows of {sae.config.d_out} numbers, got "
                f"{other.config.d_out}; compare SAEs of one site"
            )
    stream = stream_of(sae.config, readout, site)
    W_dec = sae.W_dec
    found = (
        effects(W_dec, stream, readout, top, bins, device)
        if stream.exists
        else none_of(sae.config.d_sae)
    )
    decoder = nearest(W_dec, None, neighbours, device)
    sides = sae.config.is_transcoder
    return Directions(
        *found,
        masked=readout.masked,
        decoder=decoder,
        encoder=nearest(sae.W_enc.T, None, neighbours, device) if sides else None,
        map=plane(decoder.latent),
        others={
            name: nearest(W_dec, other.W_dec, neighbours_of_others, device)
            for name, other in others.items()
        },
        path=stream.says,
    )
