"""The bound by which a bfloat16 product proposes entries and misses none.

With bfloat16 copies x' and w' and float32 sums, by Cauchy–Schwarz,

    |x'·w' (computed) − x·w| ≤ ‖x' − x‖·‖w'‖ + ‖x‖·‖w' − w‖ + γ·‖x'‖·‖w'‖,   γ = d·2^-24·safety,

with the norms of the actual rounding errors, about half of the worst case. γ bounds any order of
summation. Rounding the product to bfloat16 is monotone and moves a threshold t by at most 2^-8·|t|.
Every z above its threshold lies within the bound; the proposals' z are recomputed in float32, so
support and values are those of a float32 product.
"""

from typing import NamedTuple

import torch
from torch import Tensor

# Unit roundoffs: half the relative distance of neighbouring numbers.
UNIT_FLOAT32, UNIT_BFLOAT16 = 2.0**-24, 2.0**-8
# γ's factor: one for the product, one for the recomputed z; tensor cores truncate where they align.
SAFETY = {"cpu": 2, "cuda": 8}


class RowTerms(NamedTuple):
    """A row's share of the bound, float32 [batch]: bound = error·‖w'‖ + norm·‖w' − w‖."""

    error: Tensor
    norm: Tensor


def row_terms(x: Tensor, x16: Tensor) -> RowTerms:
    """The rows' terms; x16 is x rounded to bfloat16."""
    gamma = accumulation_error(x)
    back = x16.float()
    # The norms are float32 sums themselves.
    safety = 1 + gamma
    error = (back - x).norm(dim=1).add_(back.norm(dim=1), alpha=gamma).mul_(safety)
    return RowTerms(error, x.norm(dim=1).mul_(safety))


def accumulation_error(x: Tensor) -> float:
    """γ for the rows of x on their device."""
    return SAFETY[x.device.type] * x.shape[1] * UNIT_FLOAT32


def proposal_edge(
    edge: Tensor, bias: Tensor, rows: RowTerms, rounded_norm: Tensor, error_norm: Tensor
) -> Tensor:
    """float32 [d_sae]: (product without bias) + bound above it must be proposed.

    Lies below edge − bias by all that rounding may have done: of the product to bfloat16, and of
    the few float32 operations between it and the comparison.
    """
    threshold = edge.double() - bias.double()
    reach = rows.error.max().double() * rounded_norm + rows.norm.max().double() * error_norm
    slack = 1.01 * UNIT_BFLOAT16 * (threshold.abs() + reach)
    slack += 8 * UNIT_FLOAT32 * (edge.abs() + bias.abs() + reach) + 1e-30
    return (threshold - slack).float()


def entry_edge(theta: Tensor, half_bandwidth: float) -> Tensor:
    """A float32 below which no entry's z lies; the exact window is tested where it is used."""
    return torch.nextafter(theta - half_bandwidth, torch.full_like(theta, -torch.inf))
