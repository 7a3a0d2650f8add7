"""What the Triton kernels hand to each other: entries by latent, entries by row, and the bfloat16
copy of W_enc. Makes these lists with torch; the kernels fill them.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..state import TrainState

# Numbers of a temporary product or copy: 2^28 in bfloat16 are half a gigabyte.
SLICE_NUMBERS = 2**28
_STRIDE = 2**32  # more than there are latents


@dataclass
class Entries:
    """Entries latent by latent, rows ascending; latent i owns [start[i], start[i] + length[i]).

    Attributes:
        start, length: int64 [owned latents]; there may be gaps between latents.
        rows: int32, the row of each entry; the batch's size in a gap.
        z: float32, its pre-activation.
        df: float32, the gradient of the loss by its f, once known.
        capacity: the most entries that may be listed.
    """

    start: Tensor
    length: Tensor
    rows: Tensor
    z: Tensor
    df: Tensor
    capacity: int

    @classmethod
    def empty(cls, d_sae: int, capacity: int, device: torch.device) -> "Entries":
        """No entries yet."""
        start, length = torch.zeros((2, d_sae), dtype=torch.int64, device=device)
        z = torch.empty(0, device=device)
        return cls(start, length, z.int(), z, z.clone(), capacity)

    def place(self, mine: slice) -> bool:
        """Places the counted entries of a slice of latents after the existing ones; False if they
        would exceed the capacity."""
        used = self.rows.shape[0]
        end = used + self.length[mine].cumsum(0)
        self.start[mine] = end - self.length[mine]
        new = int(end[-1]) - used
        if used + new > self.capacity:
            return False
        self.rows = torch.cat([self.rows, self.rows.new_empty(new)])
        self.z, self.df = (torch.cat([old, old.new_empty(new)]) for old in (self.z, self.df))
        return True


class ByRow(NamedTuple):
    """The same entries row by row, latents ascending; row b owns [start[b], start[b + 1]).

    start int64 [batch + 1]; entry and latent int64, the place in `Entries` and the latent.
    """

    start: Tensor
    entry: Tensor
    latent: Tensor

    def between(self, first: int, last: int) -> tuple[Tensor, ...]:
        """Where each row's entries of the latents [first, last) begin and end, int64 [batch]."""
        rows = torch.arange(len(self.start) - 1, device=self.start.device)
        key = rows.repeat_interleave(self.start.diff()) * _STRIDE + self.latent[: self.start[-1]]
        return tuple(torch.searchsorted(key, rows * _STRIDE + edge) for edge in (first, last))


class RoundedWeights(NamedTuple):
    """W_enc's rows in bfloat16 [d_sae, d_in], and the norms that bound the error, float32 [d_sae]:
    ‖w'‖ and ‖w' − w‖ of every row; see `screen`."""

    weights: Tensor
    rounded_norm: Tensor
    error_norm: Tensor


def slices(n: int, width: int) -> list[slice]:
    """Slices of n latents of `width` numbers each, at most SLICE_NUMBERS numbers a slice."""
    each = max(1, SLICE_NUMBERS // width)
    return [slice(first, min(first + each, n)) for first in range(0, n, each)]


def list_by_row(entries: Entries, batch: int) -> ByRow:
    """The entries by row: a stable sort, gaps (row = batch) last."""
    rows, entry = torch.sort(entries.rows, stable=True)
    bounds = torch.arange(batch + 1, device=rows.device, dtype=rows.dtype)
    row_start = torch.searchsorted(rows, bounds)
    # A latent without entries starts where the next one does: the last of those owns the entry.
    latent = torch.searchsorted(entries.start, entry, right=True) - 1
    return ByRow(row_start, entry, latent)


def make_copy(state: TrainState) -> RoundedWeights:
    """W_enc's bfloat16 copy; made again if something other than the update wrote to W_enc."""
    W = state.parameters.W_enc.t()
    # The kernels write the copy too and leave torch's version counter as it is; every write through
    # torch raises the counter.
    version = (W.data_ptr(), W._version)
    if state.scratch.get("copy_version") != version:
        rounded_norm, error_norm = W.new_empty(2, W.shape[0])
        copy = RoundedWeights(torch.empty_like(W, dtype=torch.bfloat16), rounded_norm, error_norm)
        for mine in slices(*W.shape):
            copy.weights[mine] = W[mine]
            back = copy.weights[mine].float()
            rounded_norm[mine] = back.norm(dim=1)
            error_norm[mine] = back.sub_(W[mine]).norm(dim=1)
        state.scratch.update(copy=copy, copy_version=version)
    return state.scratch["copy"]
