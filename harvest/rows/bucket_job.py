"""BucketHarvester: all that harvesting one bucket needs.

Owns the way from a batch of sequences to rows in a bucket. What is computed depends on the model,
the tokens and the bucket alone, so any process may do any bucket, and may repeat one. `run` and
`on_dask` decide which process does which bucket.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...machine import keep_freed_memory
from ...store import StoreWriter
from ..model.hooks import forward_until
from ..model.loading import LanguageModel
from ..model.sites import Site, site_width
from .plan import Block, Mask, RowRange

Buffers = dict[str, Tensor]
"""Site -> memory for its rows, filled batch after batch."""


@dataclass(frozen=True)
class BucketHarvester:
    """A model, the sequences it reads, and what is kept of it.

    Attributes:
        sequences: [n, context] unsigned ids, sliceable.
        batch_sequences: sequences in one forward pass; part of the job, because matrix products of
            other shapes round differently.
        stored: dtype that rows are stored in; they are rounded to it on the model's device.
        outlier: a token whose norm at some site is over this many times the batch's median is not
            stored.
        drop_nonfinite: a token with NaN or Inf at some site is not stored either. If false, a NaN
            or Inf stops the harvest.
    """

    model: LanguageModel
    sequences: Any
    mask: Mask
    sites: tuple[Site, ...]
    batch_sequences: int
    stored: torch.dtype
    outlier: float | None = None
    drop_nonfinite: bool = False

    @property
    def row_bytes(self) -> int:
        """Bytes of one token's rows at all sites, as stored before compression."""
        width = sum(site_width(site, self.model.config) for site in self.sites)
        return width * self.stored.itemsize

    def rows(self, block: Block, buffers: Buffers | None = None) -> dict[str, Tensor]:
        """The sites' activations [rows, d] of a block, on the CPU, in the stored dtype.

        Rows that are to be dropped are NaN.

        Args:
            block: a batch of sequences, and which rows of it are wanted.
            buffers: memory to put the rows in, used again by the next call.

        Raises:
            ValueError: the batch does not fit in the device's memory, or a row is not finite where
                only outliers are to be dropped.
        """
        try:
            rows = self.forward(block, buffers)
        except torch.OutOfMemoryError as error:
            raise ValueError(
                f"batch_sequences must fit the memory of {self.model.device}, got "
                f"{self.batch_sequences}; begin another store with a smaller --batch-sequences"
            ) from error
        if self.outlier is not None:
            if not self.drop_nonfinite:
                _check_finite(rows, block)
            mark_outliers(rows, self.outlier)
        return rows

    def forward(self, block: Block, buffers: Buffers | None = None) -> dict[str, Tensor]:
        """The sites' activations [rows, d] of a block, on the CPU, in the stored dtype."""
        tokens = block.tokens
        if self.model.compiled:  # for one shape: repeats, which give no row, fill a short batch up
            tokens = np.resize(tokens, (max(len(tokens), self.batch_sequences), tokens.shape[1]))
        ids = torch.from_numpy(tokens.astype(np.int64)).to(self.model.device)
        flat = torch.from_numpy(block.flat)

        def take(site: Site, x: Tensor) -> Tensor:
            # Rounded first: half the bytes to gather.
            rounded, kept = x.flatten(0, 1).to(self.stored), flat.to(x.device)
            if buffers is None:
                return rounded.index_select(0, kept).cpu()
            out = _buffer_for(buffers, site, len(flat), rounded)
            if x.device.type == "cpu":
                return torch.index_select(rounded, 0, kept, out=out)
            return out.copy_(rounded.index_select(0, kept))

        return forward_until(self.model, ids, self.sites, take)

    def fill(self, bucket: Any, part: RowRange, advance: Callable[[int], None]) -> None:
        """Puts a part's rows into a store's bucket; `advance` is called with each batch's rows.

        A batch is put into the bucket while the next one is in the model. Two sets of buffers are
        used in turn.
        """
        if self.model.device.type == "cpu":
            keep_freed_memory()
        both = cycle(({}, {}))
        with ThreadPoolExecutor(1, thread_name_prefix="scopeworks-append") as pool:
            appended: Future[None] | None = None
            for block in part.blocks(self.sequences, self.mask, self.batch_sequences):
                rows = self.rows(block, next(both))
                if appended is not None:
                    appended.result()
                labels = (block.token, block.sequence, block.position)
                appended = pool.submit(bucket.append, rows, *labels)
                advance(len(block.flat))
            if appended is not None:
                appended.result()

    def fill_all(
        self,
        writer: StoreWriter,
        parts: Mapping[int, RowRange],
        advance: Callable[[int, int], None],
    ) -> None:
        """Harvests buckets, given by number, in order; `advance(bucket, rows)` is called per batch.

        An error in one leaves that one uncommitted and the earlier ones committed.
        """
        for number, part in parts.items():
            with writer.bucket(number) as bucket:
                self.fill(bucket, part, partial(advance, number))


def _buffer_for(buffers: Buffers, site: Site, n: int, like: Tensor) -> Tensor:
    """A site's buffer for n rows like those of `like` [rows, d]."""
    found = buffers.get(str(site))
    if found is None or len(found) < n:
        found = buffers[str(site)] = torch.empty((n, like.shape[1]), dtype=like.dtype)
    return found[:n]


def mark_outliers(rows: dict[str, Tensor], times: float) -> None:
    """Makes the rows of outlying tokens NaN, in place, which the store drops at every site.

    A token is outlying if its norm at some site is over `times` the median of the batch's finite
    norms at that site. Gemma 2's largest norms are at BOS, which is dropped anyway.
    """
    for x in rows.values():
        norms = x.float().norm(dim=-1)
        finite = norms[norms.isfinite()]
        if len(finite):
            x[norms > times * finite.median()] = torch.nan


def _check_finite(rows: dict[str, Tensor], block: Block) -> None:
    """Refuses NaN and Inf before outliers are marked by NaN: the store would drop both."""
    for site, x in rows.items():
        bad = torch.nonzero(~x.isfinite().all(dim=-1)).flatten()
        if len(bad):
            first = int(bad[0])
            raise ValueError(
                f"rows of {site} must be finite, got NaN or Inf in sequence "
                f"{block.sequence[first]} at position {block.position[first]} ({len(bad)} such "
                "rows in this batch); repair the model, or pass --drop-nonfinite"
            )
