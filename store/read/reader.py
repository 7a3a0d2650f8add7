"""Reading an activation store: its committed rows, their statistics, rows by number, and streams.

Owns `ActivationStore`, which may be several stores joined (`joining`). Rows are numbered over the
committed buckets in order, so a store that is still being written reads like a smaller one. In a
complete store, row numbers are those of the arrays.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Unpack, overload

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64

from ...arguments import dtype_name, is_one, several, whole
from ...foreign import short
from ..format.arrays import ArrayLayout
from ..format.commits import Commit, common_scale
from ..format.spec import LABEL_NAMES
from ..format.values import put_values
from ..place.location import StorageOptions
from ..place.options import CACHE_BYTES
from ..place.place import AnyPlace
from .joining import AnyPlaces, Opened, computed_differently, open_aligned, together
from .stream import Stream, StreamOptions, checked_batches, checked_state
from .stream_order import INTERLEAVE, Order, WindowOrder, row_numbers


class Labels(NamedTuple):
    """The token that each row is of: int64 [n] each."""

    token: Int64[np.ndarray, "n"]
    """Token id."""
    sequence: Int64[np.ndarray, "n"]
    """Number of the sequence in the token store's split."""
    position: Int64[np.ndarray, "n"]
    """Position in the sequence."""


class ActivationStore:
    """A store opened for reading, or several joined; see `open`. It shows the buckets that were
    committed when it was opened.

    Attributes:
        url: path or URL; for joined stores their URLs with " + " between them.
        spec: what the store holds when complete. For joined stores, all sites and the smallest
            chunk size; codec and provenance are those of one of them (see `layout`).
        complete: whether all buckets are committed.
    """

    def __init__(self, parts: Sequence[Opened], is_view: bool = False):
        self._parts, self._is_view = parts, is_view
        self.url = " + ".join(part.url for part in parts)
        self.spec, commits = together(parts)
        self._commits = [commits[bucket] for bucket in sorted(commits) if commits[bucket].rows]
        self._stops = np.cumsum([commit.rows for commit in self._commits], dtype=np.int64)
        self.dropped = sum(commit.dropped for commit in commits.values())
        """Rows that the harvest left out: not finite, or outliers."""
        self.dropped_at = sum((Counter(c.dropped_at) for c in commits.values()), Counter[int]())
        """Position in the sequence -> rows left out there."""
        self.complete = len(commits) == self.spec.n_buckets
        self._readers = {name: reader for part in parts for name, reader in part.readers().items()}
        self._scales = {name: common_scale(self._commits, name) for name in self.spec.sites}

    @classmethod
    def open(
        cls,
        url: "AnyPlaces | ActivationStore | Sequence[AnyPlace | ActivationStore]",
        storage_options: StorageOptions = None,
        *,
        cache_dir: str | os.PathLike[str] | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> "ActivationStore":
        """Opens a store, or several stores of the same rows, which then read as one store of all
        their sites.

        A joined store shows the buckets that are committed in all. Their labels are compared here,
        bucket by bucket: by checksum if the shards have the same sizes, otherwise by reading them
        (12 bytes a row before compression). A site that is in two of the stores must have the same
        bytes in both.

        Args:
            url: local path, fsspec URL, `Place` or an open store; or a list or tuple of them.
            storage_options: for the fsspec driver of remote stores.
            cache_dir: folder that keeps the ranges that are read from remote stores.
            cache_bytes: bound on the bytes kept there; joined stores share it evenly.

        Raises:
            FileNotFoundError: there is no activation store.
            ValueError: it is another kind of store or has another major format version; or several
                do not hold the same rows in the same order, naming what differs.
            DamagedStoreError: the metadata or a commit record is damaged.
        """
        return cls(open_aligned(url, storage_options, cache_dir, cache_bytes))

    def as_setting(self) -> str | tuple[str, ...]:
        """The store's name in settings: its URL; for joined stores all URLs.

        Raises:
            ValueError: it is a view by `only`, because its URL names all buckets.
        """
        if self._is_view:
            raise ValueError(
                f"store must be whole to be named in settings, got a view of {len(self._commits)} "
                f"buckets of {self.url}; stream it here, or pass the whole store"
            )
        return self.url if len(self._parts) == 1 else tuple(part.url for part in self._parts)

    def __repr__(self) -> str:
        sites = ", ".join(f"{site} {width:,}" for site, width in self.spec.sites.items())
        partly = "" if self.complete else f" of {self.spec.rows:,}, unfinished"
        dtypes = ", ".join(sorted({self.layout(site).codec.dtype for site in self.spec.sites}))
        text = f"ActivationStore({self.rows:,} rows{partly} of {short(sites, 200)}; {dtypes}"
        return f"{text}; {' + '.join(part.given for part in self._parts)})"

    def only(self, buckets: int | Iterable[int]) -> "ActivationStore":
        """A view of the store as if only these buckets were committed.

        Args:
            buckets: numbers of committed buckets (`commits` has them), at least one.

        Raises:
            ValueError: a bucket is not committed, or none is given.
        """
        chosen = [whole("buckets", bucket) for bucket in several(buckets)]
        there = self._parts[0].commits
        if not chosen or not there.keys() >= set(chosen):
            raise ValueError(
                f"buckets must be some of the {len(there)} committed ones, of numbers "
                f"{min(there, default=0)} … {max(there, default=0)}, got {short(repr(chosen))}"
            )
        return ActivationStore([part.only(chosen) for part in self._parts], is_view=True)

    @property
    def sites(self) -> dict[str, int]:
        """Site name -> width d."""
        return dict(self.spec.sites)

    @property
    def rows(self) -> int:
        """Committed rows."""
        return int(self._stops[-1]) if len(self._stops) else 0

    @property
    def provenance(self) -> dict:
        """Where the rows come from (model, tokens, …), as the harvest wrote it."""
        return dict(self.spec.provenance)

    @property
    def notes(self) -> list[str]:
        """Warnings about joined stores whose rows were computed differently, one line each."""
        return computed_differently(self._parts)

    @property
    def saturated(self) -> dict[str, int]:
        """Site -> number of values that were cut at the ends of the scale; only for int8."""
        return {
            site: sum(commit.sums[site].saturated for commit in self._commits)
            for site, scale in self._scales.items()
            if scale is not None
        }

    @property
    def commits(self) -> list[Commit]:
        """The committed buckets that hold rows, in order."""
        return list(self._commits)

    @property
    def stored_bytes(self) -> dict[str, int]:
        """Array path -> bytes of its committed shards."""
        total: dict[str, int] = {}
        for commit in self._commits:
            for path, shards in commit.shards.items():
                total[path] = total.get(path, 0) + sum(shard.n_bytes for shard in shards)
        return total

    def layout(self, site: str) -> ArrayLayout:
        """Chunk size, shard size and codec of a site's array; in joined stores they may differ."""
        self._check_name(site)
        return self._readers[site].layout

    def normaliser(self, site: str) -> float:
        """C = sqrt(E‖x‖²) over all committed rows, so that E‖x/C‖² = 1 (Gemma Scope, section 3.2).

        Exact, from the sums in the commit records; no row is read.

        Raises:
            ValueError: there is no such site, there are no rows, or all rows are zero.
        """
        self._check_site(site)
        squares = float(np.sum([commit.sums[site].squares for commit in self._commits]))
        if squares <= 0:
            raise ValueError(
                f"rows of {site} must not all be zero, got {self.rows} rows; check the harvest"
            )
        return (squares / self.rows) ** 0.5

    def mean(self, site: str) -> Float64[torch.Tensor, "d"]:
        """E x per channel over all committed rows, float64 [d]; no row is read.

        Raises:
            ValueError: there is no such site, or there are no rows.
        """
        self._check_site(site)
        total = np.sum([commit.sums[site].total for commit in self._commits], axis=0)
        return torch.from_numpy(total / self.rows)

    def read(self, site: str, start: int, stop: int) -> Float[torch.Tensor, "rows d"]:
        """Rows [start, stop) of a site, float32 [stop - start, d], unscaled.

        Raises:
            ValueError: there is no such site, or the range is not within the committed rows.
            DamagedStoreError: a chunk is damaged.
        """
        self._check_site(site)
        stored = self._read(site, start, stop)
        values = np.empty(stored.shape, dtype=np.float32)
        put_values(values, stored, self._readers[site].layout.codec.dtype, self._scales[site])
        return torch.from_numpy(values)

    def labels(self, start: int, stop: int) -> Labels:
        """Token id, sequence and position of rows [start, stop), int64 [stop - start] each."""
        return Labels(*(self._read(name, start, stop).astype(np.int64) for name in LABEL_NAMES))

    def rows_of(
        self, state: dict[str, int], batch_rows: int, rank: int = 0, world: int = 1
    ) -> Int64[np.ndarray, "batch"]:
        """Row numbers (int64 [batch_rows]) of the batch that a stream in this state gives next.

        They are in the batch's order; `read` and `labels` take them.

        Args:
            state: the stream's state before that batch.
            batch_rows, rank, world: the stream's.

        Raises:
            ValueError: the state is of a store with another number of rows.
        """
        state = checked_state(state)
        batch_rows, rank, _ = checked_batches(self.rows, batch_rows, rank, world)
        if state["store_rows"] != self.rows:
            raise ValueError(
                f"store_rows must be {self.rows} as store {self.url} has, got a state with"
                f" {state['store_rows']}"
            )
        interleave = state.get("interleave", INTERLEAVE)
        order = self._order(state["seed"], interleave, state.get("shuffle_rows"))
        firsts = self._stops - [commit.rows for commit in self._commits]
        pieces = order.pieces(state["row"] + rank * batch_rows, batch_rows)
        return row_numbers(pieces, firsts, self.spec.chunk_rows)

    @overload
    def stream(
        self,
        site: str,
        batch_rows: int = ...,
        seed: int = ...,
        state: dict[str, int] | None = ...,
        **more: Unpack[StreamOptions],
    ) -> Stream[torch.Tensor]: ...

    @overload
    def stream(
        self,
        site: list[str] | tuple[str, ...],
        batch_rows: int = ...,
        seed: int = ...,
        state: dict[str, int] | None = ...,
        **more: Unpack[StreamOptions],
    ) -> Stream[dict[str, torch.Tensor]]: ...

    def stream(
        self,
        site: str | Sequence[str],
        batch_rows: int = 4096,
        seed: int = 0,
        state: dict[str, int] | None = None,
        *,
        rank: int = 0,
        world: int = 1,
        prefetch: int = 4,
        threads: int | None = None,
        interleave: int = INTERLEAVE,
        shuffle_rows: int | None = None,
        dtype: str | torch.dtype = "float32",
        pin: bool | None = None,
    ) -> Stream[Any]:
        """An endless, shuffled stream of batches; a `with` block closes it at its end.

        A batch is float32 [batch_rows, d], or a dictionary site -> batch for a list of sites.

        Args:
            site: one site, or a list of sites whose batches hold the same rows.
            seed: of the order; another seed gives another order of the same rows.
            state: of an earlier stream, to continue exactly after its last batch.
            interleave: number of buckets whose rows are mixed.
            shuffle_rows: for studies of mixing: read rows in the order of their sequences, shuffled
                only within windows of this many rows. All rows that were read stay in memory.
            rank, world: which slice of the batches, of how many, where several processes read.
            prefetch: batches prepared ahead, >= 1, each of which takes memory.
            threads: reading threads. None takes two to four on a local disk and 32 for an object
                store, where a thread mostly waits for answers.
            dtype: of the batches: float32, or bfloat16, which takes half the memory.
            pin: page-locked batches, for copies to a device; None where CUDA is.

        Raises:
            ValueError: there is no such site, the batch is larger than the store, an option is not
                what it must be, or the state does not fit.
        """
        one = is_one(site)
        names: list[Any] = [site] if one else [str(name) for name in site]
        if not names:
            raise ValueError(f"site must be at least one of {', '.join(self.sites)}, got none")
        for name in names:
            self._check_site(name)
        in_flight = max(part.location.in_flight for part in self._parts)
        return Stream(
            {name: (self._readers[name], self._scales[name]) for name in names},
            [commit.bucket for commit in self._commits],
            self.spec,
            self._order(seed, interleave, shuffle_rows),
            single=one,
            batch_rows=batch_rows,
            state=state,
            rank=rank,
            world=world,
            prefetch=prefetch,
            threads=in_flight if threads is None else threads,
            dtype=dtype_name(dtype),
            pin=pin,
        )

    def _order(self, seed: int, interleave: int, shuffle_rows: int | None) -> Order | WindowOrder:
        """The order in which a stream reads."""
        sizes = [commit.rows for commit in self._commits]
        if shuffle_rows is None:
            return Order(sizes, self.spec.chunk_rows, seed, interleave)
        if interleave != INTERLEAVE:
            raise ValueError("interleave has no effect with shuffle_rows; leave it out")
        rows = np.lexsort([self._read(name, 0, self.rows) for name in ("position", "sequence")])
        return WindowOrder(sizes, self.spec.chunk_rows, seed, shuffle_rows, rows)

    def _check_name(self, site: str) -> None:
        if not isinstance(site, str) or site not in self.spec.sites:
            raise ValueError(f"site must be one of {', '.join(self.spec.sites)}, got {site!r}")

    def _check_site(self, site: str) -> None:
        self._check_name(site)
        if not self.rows:
            raise ValueError(f"store {self.url} has no committed rows yet; let the harvest run on")

    def _read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Committed rows [start, stop) of an array as stored, bucket by bucket."""
        start, stop = whole("start", start), whole("stop", stop)
        if not 0 <= start <= stop <= self.rows:
            raise ValueError(f"rows must be within 0 … {self.rows}, got {start} … {stop}")
        reader, parts = self._readers[name], []
        first = int(np.searchsorted(self._stops, start, side="right"))
        while start < stop:
            commit, end = self._commits[first], int(self._stops[first])
            base = commit.bucket * self.spec.bucket_rows - (end - commit.rows)
            parts.append(reader.read_rows(base + start, base + min(stop, end)))
            start, first = min(stop, end), first + 1
        return np.concatenate(parts) if parts else reader.layout.empty(0)
