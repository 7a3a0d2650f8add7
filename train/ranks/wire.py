"""Tensors between ranks: the few collectives that training needs, on gloo or NCCL.

Owns the process group, the device that sends, and the count of bytes. `reduce` makes exact sums of
these collectives; `world` finds out which rank is gone.
"""

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ...machine import is_out_of_memory
from .bounded import Bounded
from .endings import GRACE_S

# The same collective under its new name, and the old one's of torch before 2.13.
_all_gather: Any = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


class LostError(RuntimeError):
    """Another rank does not answer any more, or has ended."""


class Wire:
    """The ranks' process group. Every method is called by all ranks alike.

    Attributes:
        sent_bytes: payload that this rank has sent so far, as `traffic` counts it.
        backend: gloo or nccl.
    """

    def __init__(
        self,
        store: Any,
        rank: int,
        size: int,
        backend: str,
        device: torch.device,
        timeout_s: float,
    ):
        """Raises LostError if the others do not come."""
        self.rank, self.size, self.backend, self.sent_bytes = rank, size, backend, 0
        # gloo sends from main memory; NCCL from the device that it was begun on.
        self._device = torch.device("cpu") if self.backend == "gloo" else device
        if self.backend == "nccl":
            # An error is raised where it is waited for, instead of ending the process.
            os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")
            torch.cuda.set_device(device)
        names = {"store": store, "rank": rank, "world_size": size}
        patience = timedelta(seconds=timeout_s)
        # The library's own limit comes first; there is none where the store's host has frozen.
        self._do(
            Bounded().call,
            timeout_s + GRACE_S,
            lambda: dist.init_process_group(backend, timeout=patience, **names),
        )

    def close(self) -> None:
        """Closes the connections; the other ranks notice at once."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def sum(self, n: Tensor) -> Tensor:
        """Sum over the ranks, the same on all. For floating point its bits depend on the number of
        ranks; for integers they do not."""
        there = n.to(self._device, copy=True)
        self._do(dist.all_reduce, there)
        self.sent_bytes += 2 * (self.size - 1) * _bytes(there) // self.size
        return there.to(n.device)

    def all(self, mine: Tensor) -> Tensor:
        """Every rank's tensor of one shape, [size, …]."""
        there = mine.contiguous().to(self._device)
        out = there.new_empty(self.size, *there.shape)
        self._do(_all_gather, out.view(-1), there.view(-1))
        self.sent_bytes += (self.size - 1) * _bytes(there)
        return out.to(mine.device)

    def exchanged(self, mine: Tensor, counts: Sequence[int]) -> Tensor:
        """Blocks for every rank: rank r's are mine[r], [size, k, n] in all; what the others have
        for this one comes back as [Σ counts, n], counts[r] of them from rank r.
        """
        there, width = mine.contiguous().to(self._device), mine.shape[2]
        out = there.new_empty(sum(counts), width)
        here = [mine.shape[1] * width] * self.size
        splits = [count * width for count in counts]
        self._do(dist.all_to_all_single, out.view(-1), there.view(-1), splits, here)
        self.sent_bytes += (self.size - 1) * _bytes(there[0])
        return out.to(mine.device)

    def collected(self, mine: Tensor, rows: Sequence[int]) -> Tensor | None:
        """On the first rank the ranks' tensors, joined along their first axis (rows[r] rows from
        rank r); None on the others."""
        there = mine.contiguous().to(self._device)
        if self.rank:
            self._do(dist.send, there, 0)
            self.sent_bytes += _bytes(there)
            return None
        parts = [there, *(there.new_empty(n, *there.shape[1:]) for n in rows[1:])]
        for rank, part in enumerate(parts[1:], 1):
            self._do(dist.recv, part, rank)
        return torch.cat(parts).to(mine.device)

    def passed(self, rank: int, rows: Tensor) -> Tensor:
        """Sends `rows` of one rank to the first, which returns them; on the first rank `rows` only
        gives the shape."""
        there = rows.contiguous().to(self._device)
        if self.rank == rank:
            self._do(dist.send, there, 0)
            self.sent_bytes += _bytes(there)
        elif self.rank == 0:
            there = torch.empty_like(there)
            self._do(dist.recv, there, rank)
        return there.to(rows.device)

    def _do(self, collective: Any, *arguments: Any, **options: Any) -> None:
        try:
            collective(*arguments, **options)
        except (RuntimeError, ValueError) as error:  # DistError among them
            if is_out_of_memory(error):
                raise
            raise LostError(str(error).splitlines()[0]) from error


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
