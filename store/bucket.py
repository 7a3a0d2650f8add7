"""One bucket while it is being filled: rows scattered to their shuffled places, then sealed into
shards.

Owns the scratch space, the checks of what is appended, the bucket's sums and its shard objects. The
commit itself is written by `writer.StoreWriter`.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Any

import numpy as np
import torch

from .arrays import ArrayLayout, write_shard
from .commits import Commit, SiteSums
from .location import Location
from .scratch import Scratch
from .shuffle import ROWS, permutation
from .spec import LABEL_NAMES, StoreSpec

_INFINITY = {"bfloat16": 0x7F80, "float32": 0x7F800000}
"""Bits of +Inf."""

_SUM_ROWS = 32
"""Rows summed at once: few enough that their float64 copy stays in the cache."""


class BucketWriter:
    """Takes the rows of one bucket in harvest order; row k goes to place permutation(seed,
    bucket)[k]."""

    def __init__(
        self,
        spec: StoreSpec,
        bucket: int,
        scratch: Scratch,
        drop_nonfinite: bool,
    ):
        self.bucket = bucket
        self.dropped = 0
        self._spec, self._drop_nonfinite = spec, drop_nonfinite
        start, stop = spec.bucket_range(bucket)
        self.planned = stop - start
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
        """Adds n rows, the same n tokens at every site.

        Args:
            rows: site -> [n, d], a floating dtype, on any device; stored rounded to nearest even in
                the store's dtype.
            token, sequence, position: [n] integers in 0 … 2^32 - 1: token id, number of the
                sequence, position in it.

        Raises:
            ValueError: sites, shapes or dtypes are wrong, there are more rows than the bucket
                takes, or a row holds NaN or Inf (unless the writer drops those). Nothing of the
                call is kept.
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
            places, blocks = places[keep], {name: block[keep] for name, block in blocks.items()}
        self._scratch.scatter(places, blocks)

    def check_full(self) -> None:
        """Raises ValueError if fewer rows were appended than the bucket takes."""
        if self._taken != self.planned:
            raise ValueError(
                f"bucket {self.bucket} must get {self.planned} rows, got {self._taken}"
            )

    def shard_keys(self) -> list[str]:
        """Keys of all objects this bucket may write, its commit apart."""
        keys = []
        for layout in self._layouts.values():
            first = self.bucket * self._spec.bucket_rows // layout.shard_rows
            count = -(-self.planned // layout.shard_rows)
            keys += [layout.shard_key(shard) for shard in range(first, first + count)]
        return keys

    def seal(self, location: Location, pool: Executor) -> Commit:
        """Writes the bucket's shards, durably, and returns its commit record, which the caller
        writes last."""
        sums: dict[str, SiteSums] = {}
        shards = {}
        for name, layout in self._layouts.items():
            total = None if name in LABEL_NAMES else _Summation(layout)
            fetch = self._fetcher(name, total)
            shards[layout.path] = self._write_array(location, layout, fetch, pool)
            if total is not None:
                sums[name] = total.result()
        location.flush(
            layout.shard_key(record.shard)
            for layout in self._layouts.values()
            for record in shards[layout.path]
        )
        return Commit(self.bucket, self._scratch.filled, sums, shards, self.dropped)

    def _fetcher(self, name: str, total: "_Summation | None") -> Callable[[int, int], np.ndarray]:
        """(start, stop) -> those rows in stored order, counted in `total`."""

        def fetch(start: int, stop: int) -> np.ndarray:
            block = self._scratch.rows(name, start, stop)
            if total is not None:
                total.add(block)
            return block

        return fetch

    def _write_array(
        self,
        location: Location,
        layout: ArrayLayout,
        fetch: Callable[[int, int], np.ndarray],
        pool: Executor,
    ) -> list:
        """One array's shards of this bucket."""
        first = self.bucket * self._spec.bucket_rows // layout.shard_rows
        records = []
        for start in range(0, self._scratch.filled, layout.shard_rows):
            rows = min(layout.shard_rows, self._scratch.filled - start)
            shard = first + start // layout.shard_rows
            shifted = _shifted(fetch, start)
            records.append(write_shard(location, layout, shard, rows, shifted, pool))
        return records

    def _checked(self, rows: Mapping[str, torch.Tensor], n: int) -> dict[str, np.ndarray]:
        """Every site's rows as bits in the storage dtype."""
        if rows.keys() != self._spec.sites.keys():
            raise ValueError(f"sites must be {sorted(self._spec.sites)}, got {sorted(rows)}")
        blocks = {}
        for name, width in self._spec.sites.items():
            tensor = rows[name]
            if tuple(tensor.shape) != (n, width):
                raise ValueError(f"rows of {name} must be [{n}, {width}], got {list(tensor.shape)}")
            if not tensor.is_floating_point():
                raise ValueError(f"rows of {name} must be floating point, got {tensor.dtype}")
            blocks[name] = to_storage(tensor, self._layouts[name].codec.dtype)
        return blocks

    def _checked_label(self, name: str, labels: dict[str, np.ndarray], n: int) -> np.ndarray:
        if labels[name].shape != (n,):
            raise ValueError(f"{name} must be [{n}], got {list(labels[name].shape)}")
        return labels[name]

    def _finite(self, blocks: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> np.ndarray:
        """Which rows are finite at every site; refuses the others unless they are to be dropped."""
        keep = np.ones(len(labels["token"]), dtype=bool)
        for name in self._spec.sites:
            bad = nonfinite_rows(blocks[name], self._layouts[name].codec.dtype)
            if len(bad) and not self._drop_nonfinite:
                first = int(bad[0])
                raise ValueError(
                    f"rows of {name} must be finite, got NaN or Inf in sequence"
                    f" {labels['sequence'][first]} at position {labels['position'][first]}"
                    f" ({len(bad)} such rows in this batch); mend the model, or drop such rows"
                )
            keep[bad] = False
        return keep


class _Summation:
    """float64 Σx and Σ‖x‖² over the chunks of a site, added row by row, so that no batching changes
    a bit."""

    def __init__(self, layout: ArrayLayout):
        assert layout.width is not None
        self._dtype = layout.codec.dtype
        self._total = np.zeros(layout.width)
        self._squares = np.zeros(layout.width)
        self._buffer = torch.empty(_SUM_ROWS, layout.width, dtype=torch.float64)

    def add(self, block: np.ndarray) -> None:
        """Counts a chunk of rows in the storage dtype."""
        for first in range(0, len(block), _SUM_ROWS):
            part = from_storage(block[first : first + _SUM_ROWS], self._dtype)
            values = self._buffer[: len(part)].copy_(part).numpy()
            self._total += np.add.reduce(values, axis=0)
            np.multiply(values, values, out=values)
            self._squares += np.add.reduce(values, axis=0)

    def result(self) -> SiteSums:
        """The sums so far."""
        return SiteSums(self._total, float(np.add.reduce(self._squares)))


def to_storage(tensor: torch.Tensor, dtype: str) -> np.ndarray:
    """A floating tensor as the bits of a storage dtype, on the CPU, rounded to nearest even."""
    tensor = tensor.detach()
    if dtype == "bfloat16":
        return tensor.to("cpu", torch.bfloat16).contiguous().view(torch.int16).numpy().view("<u2")
    return tensor.to("cpu", torch.float32).contiguous().numpy()


def from_storage(block: np.ndarray, dtype: str) -> torch.Tensor:
    """Rows in the storage dtype as a tensor of the true dtype, sharing memory."""
    if dtype == "bfloat16":
        return torch.from_numpy(block.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(block)


def nonfinite_rows(block: np.ndarray, dtype: str) -> np.ndarray:
    """Numbers of the rows with a NaN or Inf.

    Looks at the bits: as signed integers the positive ones lie above all else, as unsigned the
    negative ones do. Two maxima cost a twentieth of isfinite on bfloat16.
    """
    unsigned = block if dtype == "bfloat16" else block.view("<u4")
    signed = unsigned.view(f"<i{unsigned.itemsize}")
    infinity = _INFINITY[dtype]
    minus_infinity = infinity | 1 << (8 * unsigned.itemsize - 1)
    if not block.size or (signed.max() < infinity and unsigned.max() < minus_infinity):
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero(((signed >= infinity) | (unsigned >= minus_infinity)).any(axis=1))


def _label(name: str, values: Any) -> np.ndarray:
    """Integers as uint32; refuses what does not fit."""
    array = np.asarray(values.cpu() if isinstance(values, torch.Tensor) else values)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name} must be integers, got {array.dtype}")
    if array.size and (int(array.min()) < 0 or int(array.max()) >= 2**32):
        raise ValueError(f"{name} must be in 0 … 2^32 - 1, got {array.min()} … {array.max()}")
    return array.astype(np.uint32)


def _shifted(fetch: Callable[[int, int], np.ndarray], by: int) -> Callable[[int, int], np.ndarray]:
    return lambda start, stop: fetch(by + start, by + stop)
