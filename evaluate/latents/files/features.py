"""A latent as circuit-tracer's page draws it: one record of `features/layer_N.bin`.

Owns what the record's keys mean here. circuit-tracer's page spreads the histogram's bins evenly
over [act_min, act_max] and colours by that range. It reads entry i of `quantile_values` as the
(i + 1)-th percentile of firings, and `activation_frequency` as a share of all tokens.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from .gathered import Gathered
from .records import number, rounded

TOP = "Top activations"
_PERCENT = np.arange(1, 101)
_FEW_DIGITS = 4


def feature(found: Gathered, latent: int) -> dict[str, Any]:
    """The record of one latent."""
    firings = found.firings
    fired = int(firings.fired[latent])
    counts = np.trim_zeros(firings.histogram[latent], "b")
    return {
        "transcoder_id": found.manifest.sae.name,
        "index": latent,
        "examples_quantiles": _bands(found, latent),
        "top_logits": [text for text, _, _ in found.output_tokens(latent, "raised")],
        "bottom_logits": [text for text, _, _ in found.output_tokens(latent, "lowered")],
        "act_min": 0,
        "act_max": number(firings.largest[latent]),
        "quantile_values": rounded(_percentiles(found, latent), _FEW_DIGITS) if fired else [],
        "histogram": counts.tolist(),
        "activation_frequency": number(fired / max(firings.rows, 1)),
    }


def band_name(band: int, bands: int) -> str:
    """The name of a band of examples; band 0 has the strongest."""
    if band == 0:
        return TOP
    return f"Firings {100 * (band - 1) / bands:.3g}–{100 * band / bands:.3g}% from the strongest"


def _bands(found: Gathered, latent: int) -> list[dict[str, Any]]:
    """Examples by band; empty bands are left out."""
    bands: dict[int, list[dict[str, Any]]] = {}
    for one in found.snippets(latent):
        bands.setdefault(one.band, []).append(
            {
                "tokens": one.texts,
                "tokens_acts_list": [value or 0 for value in one.values],
                "train_token_ind": one.at,
                "is_repeated_datapoint": False,
            }
        )
    return [
        {"quantile_name": band_name(band, found.manifest.bands), "examples": bands[band]}
        for band in sorted(bands)
    ]


def _percentiles(found: Gathered, latent: int) -> Float[np.ndarray, "100"]:
    """1st to 100th percentile of firings, from the histogram; exact to a bin's width."""
    firings = found.firings
    counts = firings.histogram[latent].astype(np.float64)
    ends = np.cumsum(counts)
    wanted = _PERCENT / 100 * ends[-1]
    bins = np.searchsorted(ends, wanted, side="left").clip(max=len(ends) - 1)
    inside = (wanted - (ends[bins] - counts[bins])) / np.maximum(counts[bins], 1)
    values = (bins + inside) * firings.bin_width[latent]
    return values.clip(firings.smallest[latent], firings.largest[latent])
