"""One bucket while it is filled: scatters rows to their shuffled places, then writes its shards.

Owns the checks of what is appended, the bucket's sums and its shard objects. `sealing` writes the
commit record.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Any

import numpy as np
import torch

from ..format.arrays import ArrayLayout, ShardRecord, write_shard
from ..format.commits import Commit
from ..format.permutations import ROWS, permutation
from ..format.spec import LABEL_NAMES, StoreSpec
from ..format.sums import Summation
from ..format.values import Extremes, SiteSums, nonfinite_rows, quantised, to_bits
from ..place.uploads import Sink
from .scratch import Scratch


class BucketWriter:
    """Takes the rows of one bucket in harvest order; row k goes to place permutation[k].

    The permutation follows from the store's seed and the bucket's number.
    """

    def __init__(
        self,
        spec: StoreSpec,
        bucket: int,
        scratch: Scratch,
        drop_nonfinite: bool,
        in_stored_order: bool = False,
    ):
        self.bucket = bucket
        self.dropped = 0
        self.dropped_at: Counter[int] = Counter()
        """Position in the sequence -> rows dropped there."""
        self._spec, self._drop_nonfinite = spec, drop_nonfinite
        start, stop = spec.bucket_range(bucket)
        self.planned = stop - start
        if in_stored_order:
            self._order = np.arange(self.planned)
        else:
            self._order = permutation(self.planned, spec.seed, ROWS, bucket)
        self._taken = 0
        self._layouts = spec.site_layouts() | spec.label_layouts()
        self._scratch = scratch
        scratch.begin(self.planned)

    def append(
        self,
        rows: Mapping[str, torch.Tensor],
        token: Any,
        sequence: Any,
        position: Any,
    ) -> None:
        """Adds n rows: the same n tokens at every site.

        Args:
            rows: site -> [n, d], a floating dtype, on any device; stored rounded to nearest even in
                the store's dtype.
            token, sequence, position: [n] integers in 0 … 2^32 - 1: token id, number of the
                sequence, position in it.

        Raises:
            ValueError: sites, shapes or dtypes are wrong, there are more rows than the bucket
                takes, or a row holds NaN or Inf (unless the writer drops those). No row of this
                call is then added.
        """
        labels = {
            name: _label(name, values)
            for name, values in zip(LABEL_NAMES, (token, sequence, position), strict=True)
        }
        n = len(labels["token"])
        blocks = self._checked(rows, n) | {
            name: self._checked_label(name, labels, n) for name in labels
        }
        keep = self._finite(blocks, labels)
        if self._taken + n > self.planned:
            raise ValueError(
                f"bucket {self.bucket} must get {self.planned} rows, got {self._taken + n}"
            )
        places = self._order[self._taken : self._taken + n]
        self._taken += n
        if not keep.all():
            self.dropped += int((~keep).sum())
            self.dropped_at.update(labels["position"][~keep].tolist())
            places, blocks = places[keep], {name: block[keep] for name, block in blocks.items()}
        self._scratch.scatter(places, blocks)

    def leave_out(self, n: int, at: Mapping[int, int]) -> None:
        """Counts n rows as dropped, for a copy whose source has dropped them.

        Args:
            at: position in the sequence -> rows dropped there.
        """
        self._taken += n
        self.dropped += n
        self.dropped_at.update(at)

    def check_full(self) -> None:
        """Raises ValueError if fewer rows were appended than the bucket takes."""
        if self._taken != self.planned:
            raise ValueError(
                f"bucket {self.bucket} must get {self.planned} rows, got {self._taken}"
            )

    def shard_keys(self) -> list[str]:
        """Keys of all shards that this bucket may write."""
        keys = []
        for layout in self._layouts.values():
            first = self.bucket * self._spec.bucket_rows // layout.shard_rows
            count = -(-self.planned // layout.shard_rows)
            keys += [layout.shard_key(shard) for shard in range(first, first + count)]
        return keys

    def seal(
        self, sink: Sink, pool: Executor, scales: Mapping[str, np.ndarray] | None = None
    ) -> Commit:
        """Writes the bucket's shards durably and returns its commit, which the caller writes.

        Args:
            sink: where the shards are written.
            pool: threads that encode chunks.
            scales: int8 only: site -> float32 [d]; None for bucket 0, which sets them.
        """
        self._scratch.finish()
        sums: dict[str, SiteSums] = {}
        shards: dict[str, list[ShardRecord]] = {}
        for name, layout in self._layouts.items():
            source = _Source(self._scratch, name, layout, (scales or {}).get(name))
            shards[layout.path] = self._write_array(sink, layout, source, pool)
            if source.sums is not None:
                sums[name] = source.sums.result(source.saturated)
        sink.flush(
            layout.shard_key(record.shard)
            for layout in self._layouts.values()
            for record in shards[layout.path]
        )
        return Commit(
            self.bucket, self._scratch.filled, sums, shards, self.dropped, dict(self.dropped_at)
        )

    def _write_array(
        self,
        sink: Sink,
        layout: ArrayLayout,
        source: "_Source",
        pool: Executor,
    ) -> list[ShardRecord]:
        """One array's shards of this bucket."""
        first = self.bucket * self._spec.bucket_rows // layout.shard_rows
        records = []
        for start in range(0, self._scratch.filled, layout.shard_rows):
            rows = min(layout.shard_rows, self._scratch.filled - start)
            shard = first + start // layout.shard_rows
            fetch = _shifted(source.rows, start)
            records.append(write_shard(sink, layout, shard, rows, fetch, pool, source.sums))
        return records

    def _checked(self, rows: Mapping[str, torch.Tensor], n: int) -> dict[str, np.ndarray]:
        """Every site's rows as bits in the dtype in which they are collected."""
        if rows.keys() != self._spec.sites.keys():
            raise ValueError(f"sites must be {sorted(self._spec.sites)}, got {sorted(rows)}")
        blocks = {}
        for name, width in self._spec.sites.items():
            tensor = rows[name]
            if tuple(tensor.shape) != (n, width):
                raise ValueError(f"rows of {name} must be [{n}, {width}], got {list(tensor.shape)}")
            if not tensor.is_floating_point():
                raise ValueError(f"rows of {name} must be floating point, got {tensor.dtype}")
            blocks[name] = to_bits(tensor, self._layouts[name].codec.collected)
        return blocks

    def _checked_label(self, name: str, labels: dict[str, np.ndarray], n: int) -> np.ndarray:
        if labels[name].shape != (n,):
            raise ValueError(f"{name} must be [{n}], got {list(labels[name].shape)}")
        return labels[name]

    def _finite(self, blocks: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> np.ndarray:
        """bool [n]: which rows are finite at every site; refuses the others unless they are to be
        dropped."""
        keep = np.ones(len(labels["token"]), dtype=bool)
        for name in self._spec.sites:
            bad = nonfinite_rows(blocks[name], self._layouts[name].codec.collected)
            if len(bad) and not self._drop_nonfinite:
                first = int(bad[0])
                raise ValueError(
                    f"rows of {name} must be finite, got NaN or Inf in sequence"
                    f" {labels['sequence'][first]} at position {labels['position'][first]}"
                    f" ({len(bad)} such rows in this batch); repair the model, or drop such rows"
                )
            keep[bad] = False
        return keep


class _Source:
    """One array's rows between the scratch space and the encoder: quantised for int8, added up."""

    def __init__(self, scratch: Scratch, name: str, layout: ArrayLayout, scale: np.ndarray | None):
        self._scratch, self._name = scratch, name
        self._saturated: list[int] = []
        self._scale = scale
        if layout.codec.dtype == "int8" and scale is None:
            self._scale = self._own_scale(layout)
        self.sums = None
        if layout.width is not None:
            self.sums = Summation(layout.width, layout.codec.dtype, self._scale)

    @property
    def saturated(self) -> int:
        """int8: number of values so far that were cut at the ends of the scale."""
        return sum(self._saturated)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Rows [start, stop) as stored; called from several threads."""
        block = self._scratch.rows(self._name, start, stop)
        if self._scale is not None:
            block, saturated = quantised(block, self._scale)
            self._saturated.append(saturated)
        return block

    def _own_scale(self, layout: ArrayLayout) -> np.ndarray:
        """The scale (float32 [d]) that fits this bucket, for bucket 0."""
        assert layout.width is not None
        extremes = Extremes(layout.width)
        for start in range(0, self._scratch.filled, layout.chunk_rows):
            stop = min(start + layout.chunk_rows, self._scratch.filled)
            extremes.add(self._scratch.rows(self._name, start, stop))
        return extremes.scale()


def _label(name: str, values: Any) -> np.ndarray:
    """Integers as uint32; refuses values that do not fit."""
    array = np.asarray(values.cpu() if isinstance(values, torch.Tensor) else values)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name} must be integers, got {array.dtype}")
    if array.size and (int(array.min()) < 0 or int(array.max()) >= 2**32):
        raise ValueError(f"{name} must be in 0 … 2^32 - 1, got {array.min()} … {array.max()}")
    return array.astype(np.uint32)


def _shifted(fetch: Callable[[int, int], np.ndarray], by: int) -> Callable[[int, int], np.ndarray]:
    return lambda start, stop: fetch(by + start, by + stop)
