"""Output tokens that a latent raises and lowers, and the histogram of its effects on all of them.

    effect[i, t] = Σ_d stream(W_dec[i])[d] · gain[d] · W_U[t, d]

`stream` takes a decoder row to the residual stream. Owns the product, in blocks of latents and
tokens: memory has a bound that does not depend on the vocabulary's size.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from .largest import largest
from .readout import Readout

_EFFECTS_BYTES, _TOKENS_BYTES, _COUNTED = 2**27, 2**25, 2**22
"""Largest block of effects and of unembedding rows, in bytes; effects counted at a time."""


class Effects(NamedTuple):
    """Effects of d_sae latents on output tokens; `Directions` explains the fields.

    k is 0 if no linear path leads from the site to the logits.
    """

    raised: Int[np.ndarray, "d_sae k"]
    raised_by: Float[np.ndarray, "d_sae k"]
    lowered: Int[np.ndarray, "d_sae k"]
    lowered_by: Float[np.ndarray, "d_sae k"]
    edges: Float[np.ndarray, "d_sae bins_plus_1"]
    counts: Int[np.ndarray, "d_sae bins"]


def none_of(d_sae: int) -> Effects:
    """Empty effects, for a site from which no linear path leads to the logits."""
    ids, values = np.zeros((d_sae, 0), np.int64), np.zeros((d_sae, 0), np.float32)
    return Effects(ids, values, ids, values, np.zeros((d_sae, 1)), ids)


def effects(
    W_dec: Float[Tensor, "d_sae d_out"],
    stream: Callable[[Tensor], Tensor],
    readout: Readout,
    top: int,
    bins: int,
    device: torch.device | str = "cpu",
) -> Effects:
    """Effects of decoder rows on the logits of all tokens that are not masked, float32.

    Args:
        W_dec: decoder rows.
        stream: takes rows to the residual stream.
        readout: the language model's.
        top: number of raised, and of lowered, tokens.
        bins: number of bins of the histogram. They have equal width, between a latent's smallest
            and largest effect.
        device: where it is computed.

    Returns:
        The effects. A row that is 0 has -1 for its tokens, and an empty histogram.
    """
    kept = np.flatnonzero(readout.kinds < 0)
    block = max(1, min(1024, _EFFECTS_BYTES // (4 * max(len(kept), 1))))
    found = [
        _of_block(_onto(stream(rows), readout, kept, device), kept, top, bins)
        for rows in W_dec.float().split(block)
    ]
    return Effects(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _onto(
    rows: Float[Tensor, "block d_model"],
    readout: Readout,
    kept: Int[np.ndarray, " kept"],
    device: torch.device | str,
) -> Float[Tensor, "block kept"]:
    """Effects of a block of rows on the kept tokens."""
    scaled = (rows * readout.gain).to(device)
    out = torch.empty((len(rows), len(kept)), device=device)
    step = max(1, _TOKENS_BYTES // (4 * rows.shape[1]))
    for start in range(0, readout.n_tokens, step):
        stop = min(start + step, readout.n_tokens)
        first, last = np.searchsorted(kept, [start, stop])
        if first < last:
            part = torch.from_numpy(kept[first:last] - start)
            tokens = readout.unembedding(start, stop)[part].to(device)
            torch.mm(scaled, tokens.T, out=out[:, first:last])
    return out


def _of_block(
    x: Float[Tensor, "block kept"], ids: Int[np.ndarray, " kept"], top: int, bins: int
) -> tuple[np.ndarray, ...]:
    """Largest, smallest and histogram of a block of effects."""
    dead = (x == 0).all(1).cpu().numpy()
    high, most = largest(x, top)
    low, least = largest(-x, top)
    raised, lowered = ids[most], ids[least]
    raised[dead], lowered[dead] = -1, -1
    first, last = x.amin(1).double(), x.amax(1).double()
    counts = _histogram(x, first, (last - first) / bins, bins)
    counts[dead] = 0
    edges = np.linspace(first.cpu().numpy(), last.cpu().numpy(), bins + 1, axis=1)
    return raised, high, lowered, -low, edges, counts


def _histogram(
    x: Float[Tensor, "block kept"],
    low: Float[Tensor, " block"],
    width: Float[Tensor, " block"],
    bins: int,
) -> Int[np.ndarray, "block bins"]:
    """Counts in bins of equal width from `low`; the last one holds its upper edge."""
    counts = torch.zeros((len(x), bins), dtype=torch.int64, device=x.device)
    scale = torch.where(width > 0, 1 / width, 0).float()[:, None]
    for part in x.split(max(1, _COUNTED // len(x)), dim=1):
        where = ((part - low.float()[:, None]) * scale).long().clamp_(0, bins - 1)
        counts.scatter_add_(1, where, torch.ones_like(where))
    return counts.cpu().numpy()
