"""Results from the weights alone, for all latents of an SAE.

Owns the choice of directions to compare: decoder rows and, for transcoders, encoder columns too.
"""

from collections.abc import Callable, Mapping

import torch

from ....train.sae.sae import SAE
from ..contents import Directions, Nearest
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
    others: Mapping[str, Callable[[], SAE]] | None = None,
    top: int = 10,
    bins: int = 32,
    neighbours: int = 8,
    neighbours_of_others: int = 3,
    device: torch.device | str = "cpu",
) -> Directions:
    """Output tokens, nearest directions and a map of all latents.

    Args:
        sae: the SAE or transcoder.
        readout: the language model's, see `readout.read_readout`.
        site: the site of the SAE; by default the one in its files. Not used for a transcoder, whose
            files must name the site it writes.
        others: name -> a function that reads another SAE, whose decoder rows have the same width.
            One of them is in memory at a time.
        top: number of raised, and of lowered, output tokens.
        bins: number of bins of the histogram of effects.
        neighbours: number of nearest latents of this SAE.
        neighbours_of_others: number of nearest latents of each other SAE.
        device: where products are computed.

    Raises:
        ValueError: the SAE does not fit the model, or another SAE does not fit this one.
    """
    stream = stream_of(sae.config, readout, site)
    W_dec = sae.W_dec
    of_others = {  # first: an SAE that does not fit is refused before the long products
        name: _nearest_of(read(), name, sae, neighbours_of_others, device)
        for name, read in (others or {}).items()
    }
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
        others=of_others,
        path=stream.says,
    )


def _nearest_of(other: SAE, name: str, sae: SAE, most: int, device: torch.device | str) -> Nearest:
    """Another SAE's latents that are nearest to each of this one's."""
    if other.config.d_out != sae.config.d_out:
        raise ValueError(
            f"other SAE {name} must have decoder rows of {sae.config.d_out} numbers, got "
            f"{other.config.d_out}; compare SAEs of one site"
        )
    return nearest(sae.W_dec, other.W_dec, most, device)
