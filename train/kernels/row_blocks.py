"""The rows of a batch, split into one block per rank; every rank holds the whole SAE.

Each rank finds the entries of its own rows, decodes and differentiates them. Then the ranks
exchange entries and residuals, and all make the same update from the same numbers. A dense step
exchanges gradients instead: there the entries are more numbers than the gradients.
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
    """Which rows of a batch are this rank's, and how ranks exchange what they found.

    Attributes:
        rank, size: this rank's number, and the number of ranks.
        all: stacks the ranks' tensors of one shape into [size, …], the same on all ranks.
        sum: adds the ranks' tensors of one shape, the same on all ranks.
    """

    rank: int
    size: int
    all: Callable[[Tensor], Tensor]
    sum: Callable[[Tensor], Tensor]

    def mine(self, batch: int) -> slice:
        """This rank's rows of a batch. The ranks' numbers of rows differ by at most one."""
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
        """All rows' residual [batch, d_out], its squared norm [batch], and ‖f‖₀ int64 [batch], from
        this rank's."""
        # ‖f‖₀ is sent as float32, which is exact below 2^24.
        mine = torch.cat([residual, loss[:, None], l0[:, None].float()], 1)
        whole = self.joined(mine, batch)
        return whole[:, :-2].contiguous(), whole[:, -2].contiguous(), whole[:, -1].long()

    def listed(
        self, mine: ListedEntries | None, most: int, batch: int, theta: Tensor
    ) -> ListedEntries | None:
        """The entries of all rows, in the order in which one process would list them.

        Args:
            mine: the entries of this rank's rows, numbered from its first row; None if they were
                too many to list.
            most: entries of all ranks that may be listed.
            batch: rows of all ranks.
            theta: [d_sae], for shape and device.

        Returns:
            The entries without gaps; None on all ranks if one rank passed None, or if all ranks
            together have more than `most`.
        """
        # Negative lengths tell the other ranks that this one has no list.
        unlisted = torch.full_like(theta, -1, dtype=torch.int32)
        lengths = self.all(unlisted if mine is None else mine.length.int()).long()
        counts = lengths.sum(1).tolist()
        if mine is None or min(counts) < 0 or sum(counts) > most:
            return None
        places = _places(mine.start, mine.length)
        padded = places.new_zeros(3, max(1, *counts), dtype=torch.int32)
        rows = mine.rows[places] + self.mine(batch).start
        # One int32 tensor [3, most of any rank]: rows, and the bits of z and df.
        for row, values in zip(padded, (rows, mine.z[places], mine.df[places]), strict=True):
            row[: len(places)] = values.view(torch.int32)
        words = torch.cat(
            [part[:, :n] for part, n in zip(self.all(padded), counts, strict=True)], 1
        )
        length = lengths.sum(0)
        start = length.cumsum(0) - length
        # Where each rank's entries of each latent begin, [ranks, d_sae].
        firsts = start + lengths.cumsum(0) - lengths
        found = torch.empty_like(words)
        found[:, _places(firsts.view(-1), lengths.view(-1))] = words
        return ListedEntries(
            start, length, found[0], found[1].view(torch.float32), found[2].view(torch.float32)
        )

    def _block(self, rank: int, batch: int) -> slice:
        return slice(rank * batch // self.size, (rank + 1) * batch // self.size)


def fired(entries: ListedEntries, theta: Tensor) -> Tensor:
    """In how many rows each latent is active, int64 [d_sae]; the entries have no gaps."""
    active = ~(entries.z <= theta.repeat_interleave(entries.length))
    sums = torch.cat([entries.start.new_zeros(1), active.cumsum(0)])
    return sums[entries.start + entries.length] - sums[entries.start]


def _places(start: Tensor, length: Tensor) -> Tensor:
    """The positions of all entries, int64, latent by latent, without the gaps."""
    before = length.cumsum(0) - length
    shift = (start - before).repeat_interleave(length)
    return shift + torch.arange(len(shift), device=start.device)
