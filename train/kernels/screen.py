"""The bound by which a bfloat16 product proposes entries and misses none.

With bfloat16 copies x' and w' and float32 sums, by Cauchy–Schwarz,

    |x'·w' (computed) − x·w| ≤ ‖x' − x‖·‖w'‖ + ‖x‖·‖w' − w‖ + γ·‖x'‖·‖w'‖,   γ = d·2^-24·safety,

with the norms of the actual rounding errors, about half of the worst case. γ bounds any order of
summation. Rounding the product to bfloat16 is monotone and moves a threshold t by at most 2^-8·|t|.
So every pair with z above its threshold is proposed. The z of the proposals are recomputed in
float32: which pairs are entries, and their z, are those of a float32 product.
"""

from typing import NamedTuple

import torch
from torch import Tensor

# Unit roundoffs: half the relative distance of neighbouring numbers.
UNIT_FLOAT32, UNIT_BFLOAT16 = 2.0**-24, 2.0**-8
# The safety factor in γ: 1 for the product and 1 for the recomputed z; more on CUDA, where tensor
# cores truncate the summands when they align them.
SAFETY = {"cpu": 2, "cuda": 8}


class RowTerms(NamedTuple):
    """A row's share of the bound, float32 [batch]: bound = error·‖w'‖ + norm·‖w' − w‖."""

    error: Tensor
    norm: Tensor


def row_terms(x: Tensor, x16: Tensor) -> RowTerms:
    """The rows' terms of the bound, of x float32 [batch, d_in] and x16, x rounded to bfloat16."""
    gamma = accumulation_error(x)
    back = x16.float()
    # The norms are float32 sums themselves: (1 + γ) covers their own rounding.
    safety = 1 + gamma
    # error = (‖x' − x‖ + γ·‖x'‖)·(1 + γ)
    error = (back - x).norm(dim=1).add_(back.norm(dim=1), alpha=gamma).mul_(safety)
    return RowTerms(error, x.norm(dim=1).mul_(safety))


def accumulation_error(x: Tensor) -> float:
    """γ for the rows of x on their device."""
    return SAFETY[x.device.type] * x.shape[1] * UNIT_FLOAT32


def proposal_edge(
    edge: Tensor, bias: Tensor, rows: RowTerms, rounded_norm: Tensor, error_norm: Tensor
) -> Tensor:
    """float32 [d_sae]: a pair is proposed if its product (without bias) + bound is above this.

    Args:
        edge, bias: float32 [d_sae]; entries have z > edge, z = product + bias.
        rows: the rows' terms of the bound.
        rounded_norm, error_norm: float32 [d_sae], ‖w'‖ and ‖w' − w‖ of every latent.

    Returns:
        edge − bias, less the most that rounding can have changed: of the product to bfloat16, and
        in the few float32 operations between the product and the comparison.
    """
    threshold = edge.double() - bias.double()
    reach = rows.error.max().double() * rounded_norm + rows.norm.max().double() * error_norm
    slack = 1.01 * UNIT_BFLOAT16 * (threshold.abs() + reach)
    slack += 8 * UNIT_FLOAT32 * (edge.abs() + bias.abs() + reach) + 1e-30
    return (threshold - slack).float()


def entry_edge(theta: Tensor, half_bandwidth: float) -> Tensor:
    """float32 [d_sae]: every z ≥ θ − ε/2 is above it. Loops that need |z − θ| < ε/2 test that."""
    return torch.nextafter(theta - half_bandwidth, torch.full_like(theta, -torch.inf))
