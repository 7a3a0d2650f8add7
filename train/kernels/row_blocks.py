"""The rows of a batch as blocks, one for each rank of those that all hold the whole SAE.

A rank finds the entries of its own rows, decodes and differentiates them. Then all get all entries
and residuals, and every rank makes the same update out of the same numbers. Gradients travel in a
dense step only, where entries would be more numbers than they.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class ListedEntries(NamedTuple):
    """Entries latent by latent, rows ascending; latent i owns [start[i], start[i] + length[i]).

    Attributes:
        start, length: int64 [d_sae]; there may be gaps between latents.
        rows: int32, the row of each entry.
        z, df: float32, its pre-activation, and the gradient of the loss by its f.
    """

    start: Tensor
    length: Tensor
    rows: Tensor
    z: Tensor
    df: Tensor


@dataclass(frozen=True)
class RowBlocks:
    """Which rows of a batch are this rank's, and how all get what each has found about its own.

    Attributes:
        rank, size: which of how many ranks.
        all: every rank's tensor of one shape, [size, …], the same on all of them.
        sum: the ranks' tensors added up, the same on all of them.
    """

    rank: int
    size: int
    all: Callable[[Tensor], Tensor]
    sum: Callable[[Tensor], Tensor]

    def mine(self, batch: int) -> slice:
        """This rank's rows of a batch: as many as any other's, or one more or less."""
        return self._block(self.rank, batch)

    def joined(self, rows: Tensor, batch: int) -> Tensor:
        """The rows of all ranks in order, [batch, …]; `rows` are this rank's."""
        padded = rows.new_zeros(-(-batch // self.size), *rows.shape[1:])
        padded[: len(rows)] = rows
        found = self.all(padded)
        if batch % self.size == 0:
            return found.flatten(0, 1)
        blocks = (self._block(rank, batch) for rank in range(self.size))
        pairs = zip(found, blocks, strict=True)
        return torch.cat([part[: block.stop - block.start] for part, block in pairs])

    def summed(self, *tensors: Tensor) -> list[Tensor]:
        """Tensors of one dtype, each added up over the ranks."""
        flat = self.sum(torch.cat([tensor.reshape(-1) for tensor in tensors]))
        parts = flat.split([tensor.numel() for tensor in tensors])
        return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]

    def residuals(
        self, residual: Tensor, loss: Tensor, l0: Tensor, batch: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """All rows' residual [batch, d_out], its square [batch], and ‖f‖₀ int64 [batch].

        ‖f‖₀ travels as float32, which is exact below 2^24.
        """
        mine = torch.cat([residual, loss[:, None], l0[:, None].float()], 1)
        whole = self.joined(mine, batch)
        return whole[:, :-2].contiguous(), whole[:, -2].contiguous(), whole[:, -1].long()

    def listed(
        self, mine: ListedEntries | None, most: int, batch: int, theta: Tensor
    ) -> ListedEntries | None:
        """The entries of all rows, in the order in which one process would list them.

        Args:
            mine: of this rank's rows, counted from its first; None if they were too many to list.
            most: entries that may be listed.
            batch: rows of all ranks.
            theta: [d_sae], for shape and device.

        Returns:
            The entries without gaps; None on all ranks if a rank has none to show, or if all
            together are too many.
        """
        unlisted = torch.full_like(theta, -1, dtype=torch.int32)
        lengths = self.all(unlisted if mine is None else mine.length.int()).long()
        counts = lengths.sum(1).tolist()
        if mine is None or min(counts) < 0 or sum(counts) > most:
            return None
        places = _places(mine.start, mine.length)
        padded = places.new_zeros(3, max(1, *counts), dtype=torch.int32)
        rows = mine.rows[places] + self.mine(batch).start
        for row, values in zip(padded, (rows, mine.z[places], mine.df[places]), strict=True):
            row[: len(places)] = values.view(torch.int32)
        words = torch.cat(
            [part[:, :n] for part, n in zip(self.all(padded), counts, strict=True)], 1
        )
        length = lengths.sum(0)
        start = length.cumsum(0) - length
        firsts = start + lengths.cumsum(0) - lengths  # of a rank's entries, in each latent's
        found = torch.empty_like(words)
        found[:, _places(firsts.view(-1), lengths.view(-1))] = words
        return ListedEntries(
            start, length, found[0], found[1].view(torch.float32), found[2].view(torch.float32)
        )

    def _block(self, rank: int, batch: int) -> slice:
        return slice(rank * batch // self.size, (rank + 1) * batch // self.size)


def fired(entries: ListedEntries, theta: Tensor) -> Tensor:
    """In how many rows each latent is active, int64 [d_sae], of entries without gaps."""
    active = ~(entries.z <= theta.repeat_interleave(entries.length))
    sums = torch.cat([entries.start.new_zeros(1), active.cumsum(0)])
    return sums[entries.start + entries.length] - sums[entries.start]


def _places(start: Tensor, length: Tensor) -> Tensor:
    """Where entries are, int64: those of the first latent, then those of the next."""
    before = length.cumsum(0) - length
    shift = (start - before).repeat_interleave(length)
    return shift + torch.arange(len(shift), device=start.device)
