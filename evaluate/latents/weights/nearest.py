"""Nearest directions by cosine: of the same SAE's other latents, or of another SAE's.

Owns an exhaustive search in blocks; the cosines of all pairs are never in memory at once.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..contents import Nearest
from .largest import largest

_BLOCK_BYTES = 2**26


def nearest(
    rows: Float[Tensor, "n d"],
    among: Float[Tensor, "m d"] | None,
    k: int,
    device: torch.device | str = "cpu",
) -> Nearest:
    """The k nearest of `among` for every row, float32.

    Args:
        rows: directions of any length.
        among: other directions of the same width; None for the rows themselves, each without
            itself.
        k: number of nearest directions; all if there are fewer.
        device: where it is computed.

    Returns:
        Indices and cosines, the largest cosine first, ties by the lower index. A row of length 0
        has no direction, so it neither has neighbours nor is one. Missing neighbours have index -1
        and cosine 0.
    """
    a = _unit(rows, device)
    b = a if among is None else _unit(among, device)
    gone = b.abs().amax(1) == 0
    found = []
    for start in range(0, len(a), step := max(1, _BLOCK_BYTES // (4 * len(b)))):
        part = a[start : start + step]
        cosines = part @ b.T
        cosines[:, gone] = -2  # below every cosine: not a neighbour
        cosines[part.abs().amax(1) == 0] = -2
        if among is None:
            mine = torch.arange(len(part), device=a.device)
            cosines[mine, start + mine] = -2
        found.append(largest(cosines, k))
    values = np.concatenate([one[0] for one in found])
    where = np.concatenate([one[1] for one in found])
    there = values >= -1.5
    return Nearest(np.where(there, where, -1), np.where(there, values.clip(-1, 1), 0))


def _unit(rows: Float[Tensor, "n d"], device: torch.device | str) -> Float[Tensor, "n d"]:
    """Rows of length 1; rows that are 0 stay so."""
    rows = rows.to(device=device, dtype=torch.float32)
    return rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-30)
