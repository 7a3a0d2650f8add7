"""A latent's record in `data/pages.bin`: all that its page shows, apart from its examples.

Owns the keys, which docs/latents.md explains.
"""

from typing import Any

import numpy as np

from ..contents import Nearest
from .gathered import Gathered
from .records import number, rounded

_MOST_TOKENS = 10
_NEAREST_OF_OTHERS = 3


def page(found: Gathered, latent: int) -> dict[str, Any]:
    """The record of one latent."""
    firings, directions = found.firings, found.directions
    fired = int(firings.fired[latent])
    record: dict[str, Any] = {
        "i": latent,
        "fired": fired,
        "density": number(fired / max(firings.rows, 1)),
        "mean": number(firings.total[latent] / max(fired, 1)),
        "max": number(firings.largest[latent]),
        "min": number(firings.smallest[latent]),
        "theta": number(found.theta[latent]),
        "histogram": {
            "width": float(firings.bin_width[latent]),
            "counts": np.trim_zeros(firings.histogram[latent], "b").tolist(),
        },
        "positions": rounded(firings.by_position[latent] / np.maximum(firings.position_rows, 1)),
        "drawn": int(found.firings.drawn[latent]),
        "tokens": _tokens(found, latent),
        "raised": _outputs(found, latent, "raised"),
        "lowered": _outputs(found, latent, "lowered"),
        "logits": _logits(found, latent),
        "neighbours": nearest(directions.decoder, latent),
    }
    if directions.encoder is not None:
        record["encoder_neighbours"] = nearest(directions.encoder, latent)
    record["together"] = _together(found, latent)
    record["others"] = {
        name: nearest(other, latent, _NEAREST_OF_OTHERS)
        for name, other in directions.others.items()
    }
    return record


def nearest(found: Nearest, latent: int, most: int | None = None) -> list[list[Any]]:
    """Latent and cosine of the nearest directions."""
    pairs = zip(found.latent[latent].tolist(), rounded(found.cosine[latent]), strict=True)
    return [[i, cosine] for i, cosine in pairs if i >= 0][:most]


def _tokens(found: Gathered, latent: int) -> list[list[Any]]:
    shares = found.token_shares(latent)[:_MOST_TOKENS]
    return [[text, i, number(a), number(b)] for text, i, a, b in shares]


def _outputs(found: Gathered, latent: int, side: str) -> list[list[Any]]:
    return [[text, number(e)] for text, _, e in found.output_tokens(latent, side)]


def _logits(found: Gathered, latent: int) -> dict[str, Any]:
    """The histogram of effects on all output tokens; empty if there is no linear path to them."""
    edges, counts = found.directions.logit_edges[latent], found.directions.logit_histogram[latent]
    if not len(counts):
        return {}
    return {"low": number(edges[0]), "high": number(edges[-1]), "counts": counts.tolist()}


def _together(found: Gathered, latent: int) -> list[list[Any]]:
    firings = found.firings
    partners = firings.partner[latent].tolist()
    jaccard, r = rounded(firings.jaccard[latent]), rounded(firings.correlation[latent])
    return [list(one) for one in zip(partners, jaccard, r, strict=True) if one[0] >= 0]
