"""Results from the weights alone, for every latent: output tokens, nearest directions, a map."""

from .directions import directions
from .readout import Readout, read_readout

__all__ = ["Readout", "directions", "read_readout"]
