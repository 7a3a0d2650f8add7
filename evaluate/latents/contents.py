"""What an index knows of every latent, in memory: arrays that the pass and the weights give.

Owns the shapes that `index` and `weights` fill and `files` writes. Computes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Examples:
    """Snippets in which a latent fires, one row each, by latent, then band, then falling value.

    No row is filler: every value is positive. A latent has no two rows of one document, and no two
    of the same tokens; what it has too few of it has fewer of.
    """

    latent: Int[np.ndarray, "n"]
    band: Int[np.ndarray, "n"]
    """0: the strongest of all; 1 … bands: equal shares of the latent's firings by strength, 1 the
    strongest."""
    sequence: Int[np.ndarray, "n"]
    """In the token store's split."""
    position: Int[np.ndarray, "n"]
    """Of the token at which the latent fires."""
    start: Int[np.ndarray, "n"]
    """Position of the snippet's first token."""
    value: Float[np.ndarray, "n"]
    """Feature activation at `position`."""
    tokens: Int[np.ndarray, "n window"]
    """Token ids; -1 behind a snippet's end."""
    f: Float[np.ndarray, "n window"]
    """Feature activation at every token; 0 where it does not fire, or where the store has no row
    (special tokens)."""


@dataclass(frozen=True)
class Firings:
    """What the pass over a store's rows finds, for all d_sae latents."""

    rows: int
    """Rows that were read."""
    fired: Int[np.ndarray, " d_sae"]
    """Rows in which it fires, f > 0."""
    total: Float[np.ndarray, " d_sae"]
    """Σ f, float64."""
    squares: Float[np.ndarray, " d_sae"]
    """Σ f², float64."""
    smallest: Float[np.ndarray, " d_sae"]
    """Smallest f > 0; 0 where it never fires."""
    largest: Float[np.ndarray, " d_sae"]
    """Largest f; 0 where it never fires."""
    bin_width: Float[np.ndarray, " d_sae"]
    """Of its histogram, a power of two: bin k counts firings of k·w ≤ f < (k + 1)·w."""
    histogram: Int[np.ndarray, "d_sae bins"]
    position_edges: Int[np.ndarray, "p_plus_1"]
    """Positions [edge j, edge j + 1) are counted together."""
    position_rows: Int[np.ndarray, " p"]
    """Rows at these positions."""
    by_position: Int[np.ndarray, "d_sae p"]
    """Rows at these positions in which it fires."""
    drawn: Int[np.ndarray, " d_sae"]
    """Firings drawn evenly at random, that `token_*` count; all of them where they are few."""
    token_latent: Int[np.ndarray, "m"]
    """One entry per latent and token, by latent, then falling count."""
    token: Int[np.ndarray, "m"]
    token_count: Int[np.ndarray, "m"]
    """Of the drawn firings at this token."""
    token_rows: Int[np.ndarray, "m"]
    """Rows of this token in all of the store."""
    together_rows: int
    """Rows over which firing together is counted: all, or an even sample."""
    partner: Int[np.ndarray, "d_sae partners"]
    """Latents that fire together with it most, by falling jaccard; -1 where there are fewer."""
    jaccard: Float[np.ndarray, "d_sae partners"]
    """Rows in which both fire over rows in which either does."""
    correlation: Float[np.ndarray, "d_sae partners"]
    """Pearson's r of both activations over those rows."""
    examples: Examples


@dataclass(frozen=True)
class Nearest:
    """The nearest directions of other latents, by falling cosine; -1 where there are fewer."""

    latent: Int[np.ndarray, "d_sae k"]
    cosine: Float[np.ndarray, "d_sae k"]


@dataclass(frozen=True)
class Directions:
    """What the weights say of all d_sae latents."""

    raised: Int[np.ndarray, "d_sae k"]
    """Output tokens whose logits its decoder row raises most, through the final norm's gain and the
    unembedding; most first."""
    raised_by: Float[np.ndarray, "d_sae k"]
    lowered: Int[np.ndarray, "d_sae k"]
    lowered_by: Float[np.ndarray, "d_sae k"]
    logit_edges: Float[np.ndarray, "d_sae bins_plus_1"]
    logit_histogram: Int[np.ndarray, "d_sae bins"]
    """Of all tokens that are not masked."""
    masked: Mapping[str, int]
    """Kind of token that is never listed (special, unused, byte, …) -> how many."""
    decoder: Nearest
    """By decoder rows."""
    encoder: Nearest | None
    """By encoder columns; of transcoders, whose two sides differ."""
    map: Float[np.ndarray, "d_sae 2"]
    """Decoder directions in the plane, in [0, 1]; near directions lie near one another."""
    others: Mapping[str, Nearest] = field(default_factory=dict)
    """Name of another SAE -> its latents nearest to this one's, by decoder rows."""
    path: str = ""
    """Through what a decoder row reaches the logits; or why there is no such way, and no output
    tokens."""
