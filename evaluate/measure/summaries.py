"""Summaries of firing counts, dimensions and an SAE's weights, as JSON values.

Owns how whole tensors become a few numbers. `metrics` counts and sums.
"""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...store.read.variance import CONSTANT

if TYPE_CHECKING:
    from ...train.sae.sae import SAE

HISTOGRAM_EDGES = np.round(np.linspace(-7.0, 0.0, 71), 1)
"""Bin edges of the firing-frequency histogram, log10(share of tokens)."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
LATENTS_AT_ONCE = 4096
"""Latents whose norms are taken at once; a float64 copy of a whole wide SAE would not fit."""


def json_list(values: Float[Tensor, " n"]) -> list[float | None]:
    """Seven significant digits each; None for NaN, which JSON does not have."""
    return [_digits(v) for v in values.tolist()]


def quantiles(values: Float[Tensor, " n"]) -> dict[str, float | None]:
    """Quantiles with their names; None for each if there are no values."""
    array = values.double().cpu().numpy()
    return {f"{q:.2f}": _quantile(array, q) for q in QUANTILES}


def firing_summary(fired: Int[Tensor, " d_sae"], n_tokens: int) -> dict[str, Any]:
    """Summary of firing counts, as JSON values.

    Frequencies are shares of the `n_tokens` counted tokens. A latent that never fired is dead
    *here*: its frequency may be anything well below 1/n_tokens, so it is in no bin. A latent is
    dense if it fires on more than 1% (or 10%) of the tokens; `share_above_…` is the dense
    latents' share of all latents.
    """
    counts = fired.cpu()
    alive = counts[counts > 0].double() / n_tokens
    logs = np.log10(alive.numpy())
    histogram, _ = np.histogram(np.maximum(logs, HISTOGRAM_EDGES[0]), bins=HISTOGRAM_EDGES)
    above_1, above_10 = (int((counts > share * n_tokens).sum()) for share in (0.01, 0.1))
    return {
        "n_tokens": n_tokens,
        "n_dead": int((counts == 0).sum()),
        "n_above_1_percent": above_1,
        "n_above_10_percent": above_10,
        "share_above_1_percent": above_1 / len(counts),
        "share_above_10_percent": above_10 / len(counts),
        "quantiles_of_alive": quantiles(alive),
        "log10_edges": HISTOGRAM_EDGES.tolist(),
        "histogram": histogram.tolist(),
    }


def dimension_summary(
    errors: Float[Tensor, " d"], deviations: Float[Tensor, " d"], squares: Float[Tensor, " d"]
) -> dict[str, Any]:
    """The FVU of each dimension, Σ (x − x̂)² / Σ (x − E x)², and its quantiles over dimensions.

    Args:
        errors: Σ (x − x̂)² by dimension.
        deviations: Σ (x − E x)² by dimension.
        squares: Σ x² by dimension. A dimension whose deviation is negligible beside it is
            constant, and its FVU is None.
    """
    varies = deviations > CONSTANT * squares
    fvu = torch.where(varies, errors / deviations, torch.nan)
    return {"fvu": json_list(fvu), "quantiles": quantiles(fvu[varies])}


def weights_summary(sae: "SAE") -> dict[str, Any]:
    """θ and the lengths of the SAE's weight vectors, in raw units of the activations.

    Returns:
        Quantiles over latents of θ, of the encoder's columns ‖W_enc[:, j]‖ and of the decoder's
        rows ‖W_dec[j]‖, and the length ‖b_dec‖.
    """
    return {
        "theta": quantiles(sae.theta),
        "W_enc_norm": quantiles(_norms(sae.W_enc.T)),
        "W_dec_norm": quantiles(_norms(sae.W_dec)),
        "b_dec_norm": _digits(float(sae.b_dec.double().norm())),
    }


def _norms(rows: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """The length of every row, float64."""
    return torch.cat([part.double().norm(dim=1) for part in rows.split(LATENTS_AT_ONCE)])


def _quantile(values: np.ndarray, q: float) -> float | None:
    """One quantile; None if there are no values."""
    return _digits(float(np.quantile(values, q))) if len(values) else None


def _digits(value: float) -> float | None:
    """Seven significant digits; None for NaN and infinities, which JSON does not have."""
    return float(f"{value:.7g}") if math.isfinite(value) else None
