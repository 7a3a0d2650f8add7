"""Streams: endless, shuffled, resumable batches of rows, prepared ahead in threads.

Owns prefetching, the position of a stream, and the assembly of batches. `stream_order` decides
which rows a batch holds, by pure arithmetic, so batches do not depend on threads, prefetch depth or
interruptions.
"""

import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar, cast

import numpy as np
import torch
from jaxtyping import Float

from ...arguments import whole
from ...foreign import short
from ..format.spec import StoreSpec
from ..format.values import put_values
from .array_reader import ArrayReader
from .batch_buffers import Buffers, SharedChunks
from .stream_order import Order, Stripe, WindowOrder, by_chunk

Rows = Float[torch.Tensor, "batch d"]
BatchT = TypeVar("BatchT", Rows, dict[str, Rows])
"""A stream of one site gives tensors; one of several sites, dictionaries site -> tensor."""

Source = tuple[ArrayReader, np.ndarray | None]
"""A site's array, and its scale (float32 [d]) if it is int8."""


class StreamOptions(TypedDict, total=False):
    """The options of `ActivationStore.stream` that are given by name."""

    rank: int
    world: int
    prefetch: int
    threads: int | None
    interleave: int
    shuffle_rows: int | None
    dtype: str | torch.dtype
    pin: bool | None


class Stream(Iterator[BatchT]):
    """Iterates over a store's rows, epoch after epoch, each row once per epoch.

    A batch is [batch_rows, d] per site, unscaled. Global batch b of `world` ranks is the rows
    [b·world·batch_rows, (b+1)·world·batch_rows) of the endless order; rank r takes the r-th slice
    of `batch_rows`. A batch may cross buckets and epochs; no row is skipped.

    Args:
        readers: site -> its array, and its scale for int8.
        buckets: numbers of the committed buckets.
        spec: of the store.
        order: the order in which rows are read.
        single: whether batches are tensors instead of dictionaries; for one site.
        batch_rows: rows per batch and rank.
        state: of an earlier stream, to continue after the last batch that it gave.
        rank, world: number of this data-parallel process, and how many there are.
        prefetch: batches prepared ahead, >= 1. Memory is about (prefetch + 2) batches, and two
            chunks for each thread and site.
        threads: threads that read and decompress; if there are more than `prefetch`, several share
            a batch. `ActivationStore.stream` takes as many as its place can serve at once.
        dtype: float32 or bfloat16. bfloat16 halves the bytes copied to a device, and is lossless
            for the codecs that store bfloat16.
        pin: page-locked batches, for copies to a device with non_blocking=True; by default if there
            is a CUDA device.

    Attributes:
        waiting_s: seconds `next` spent waiting for a batch that was not ready.
    """

    def __init__(
        self,
        readers: dict[str, Source],
        buckets: list[int],
        spec: StoreSpec,
        order: Order | WindowOrder,
        *,
        single: bool,
        batch_rows: int,
        state: dict[str, int] | None,
        rank: int,
        world: int,
        prefetch: int,
        threads: int,
        dtype: str = "float32",
        pin: bool | None = None,
    ):
        if dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype must be float32 or bfloat16, got {dtype!r}")
        batch_rows, rank, world = checked_batches(order.rows, batch_rows, rank, world)
        prefetch, threads = whole("prefetch", prefetch, 1), whole("threads", threads, 1)
        self._position, self._identity = _resume(state, order.identity), order.identity
        self._batch_rows, self._rank, self._world = batch_rows, rank, world
        self._single, self._rows = single, order.rows
        self._assembler = _Assembler(
            readers,
            buckets,
            spec,
            order,
            batch_rows,
            shared_chunks=order.chunks_in_use(batch_rows * world, prefetch),
            keep=prefetch + 2,
            dtype=dtype,
            pin=torch.cuda.is_available() if pin is None else pin,
        )
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="scopeworks-stream")
        self._prefetch = prefetch
        self._shares = -(-threads // prefetch)
        """Threads for each batch, so that all have work; one thread fills a batch fastest."""
        self._ahead: deque[_Coming] = deque()
        self._closed, self.waiting_s = False, 0.0

    def __next__(self) -> BatchT:
        """The next batch.

        Raises:
            DamagedStoreError: a chunk of it is damaged. The stream keeps its position, and the next
                call tries again.
            ValueError: the stream is closed.
        """
        if self._closed:
            raise ValueError("stream is closed; make another one, with this one's state() to go on")
        while len(self._ahead) < self._prefetch:
            self._submit(self._position + len(self._ahead) * self._batch_rows * self._world)
        started = time.perf_counter()
        try:
            batch = self._ahead[0].result()
        except BaseException:
            self._ahead.clear()  # so that the next call tries again
            raise
        self.waiting_s += time.perf_counter() - started
        self._ahead.popleft()
        self._position += self._batch_rows * self._world
        self._submit(self._position + len(self._ahead) * self._batch_rows * self._world)
        return cast(BatchT, next(iter(batch.values())) if self._single else batch)

    def state(self) -> dict[str, int]:
        """The position after the last batch, the same on every rank: a few integers, to store as
        JSON."""
        return {"epoch": self._position // self._rows, "row": self._position, **self._identity}

    def __repr__(self) -> str:
        of, n = ", ".join(self._assembler.sites), self._position // (self._batch_rows * self._world)
        ranks = f", rank {self._rank} of {self._world}" if self._world > 1 else ""
        return (
            f"Stream({of}: batches of {self._batch_rows:,} of {self._rows:,} rows, "
            f"{n:,} read{ranks})"
        )

    def close(self) -> None:
        """Stops the threads and drops the batches that were prepared ahead."""
        self._closed = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> "Stream[BatchT]":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _submit(self, global_start: int) -> None:
        start = global_start + self._rank * self._batch_rows
        batch, jobs = self._assembler.planned(start)
        lots = [jobs[i :: self._shares] for i in range(min(self._shares, len(jobs)))]
        work = [self._pool.submit(self._assembler.fill, lot) for lot in lots]
        self._ahead.append(_Coming(batch, work))


@dataclass(frozen=True)
class _Coming:
    """A batch that is being filled."""

    batch: dict[str, torch.Tensor]
    work: list[Future[None]]

    def result(self) -> dict[str, torch.Tensor]:
        """The batch, once it is filled; raises the first error of filling it."""
        for future in self.work:
            future.result()
        return self.batch


@dataclass(frozen=True)
class _Job:
    """A chunk, and where its rows go in a batch."""

    site: str
    chunk: int
    out: np.ndarray
    """The site's batch [batch_rows, d]."""
    stripes: list[Stripe]
    """Which rows of the chunk go to which rows of the batch."""


class _Assembler:
    """Makes batches: plans each in one thread, fills it in several."""

    def __init__(
        self,
        readers: dict[str, Source],
        buckets: list[int],
        spec: StoreSpec,
        order: Order | WindowOrder,
        batch_rows: int,
        shared_chunks: int,
        keep: int,
        dtype: str,
        pin: bool,
    ):
        self._readers, self._order, self._batch_rows = readers, order, batch_rows
        self._starts = [bucket * spec.bucket_rows for bucket in buckets]
        self._local = threading.local()
        self._shared = SharedChunks(len(readers) * shared_chunks)
        self._buffers = {
            name: Buffers((batch_rows, spec.sites[name]), dtype, keep, pin) for name in readers
        }

    @property
    def sites(self) -> list[str]:
        """Names of the sites."""
        return list(self._buffers)

    def planned(self, start: int) -> tuple[dict[str, torch.Tensor], list[_Job]]:
        """Buffers, by site, for rows [start, start + batch_rows) of the order, and the jobs that
        fill them: each job fetches a chunk once and copies its stripes."""
        order, starts = self._order, self._starts
        runs = [
            (starts[piece.bucket] + piece.chunk * order.chunk_rows + piece.first, piece.rows)
            for piece in order.pieces(start, self._batch_rows)
        ]
        sizes = {reader.layout.chunk_rows for reader, _ in self._readers.values()}
        chunks = {size: by_chunk(runs, size) for size in sizes}
        batch: dict[str, torch.Tensor] = {}
        jobs: list[_Job] = []
        for name, buffers in self._buffers.items():
            batch[name], out = buffers.take()
            of_site = chunks[self._readers[name][0].layout.chunk_rows]
            jobs += [_Job(name, number, out, stripes) for number, stripes in of_site.items()]
        return batch, jobs

    def fill(self, jobs: list[_Job]) -> None:
        """Does some of a batch's jobs; called by several threads at once."""
        for job in jobs:
            reader, scale = self._readers[job.site]
            chunk = self._chunk(job.site, reader, job.chunk, sum(s.rows for s in job.stripes))
            for at, first, rows in job.stripes:
                stored = chunk[first : first + rows]
                out = job.out[at : at + rows]
                put_values(out, stored, reader.layout.codec.dtype, scale)

    def _chunk(self, name: str, reader: ArrayReader, number: int, rows: int) -> np.ndarray:
        """A decoded chunk, of which this batch takes `rows` rows. If it does not take all, the
        chunk is kept for the next batches."""
        if rows == reader.layout.chunk_rows:
            buffers = self._local.__dict__
            if name not in buffers:
                buffers[name] = reader.layout.empty(rows)
            reader.read_chunk(number, buffers[name])
            return buffers[name]
        return self._shared.get((name, number), lambda: _decoded(reader, number))


def _decoded(reader: ArrayReader, number: int) -> np.ndarray:
    buffer = reader.layout.empty(reader.layout.chunk_rows)
    reader.read_chunk(number, buffer)
    return buffer


def checked_state(state: Any) -> dict[str, int]:
    """A stream's state, with plain ints; ValueError for what no `state()` can have given."""
    if not isinstance(state, Mapping) or not {"row", "seed", "store_rows"} <= state.keys():
        raise ValueError(f"state must be what a stream's state() gave, got {short(repr(state))}")
    return {str(name): whole(f"{name} of the stream's state", n) for name, n in state.items()}


def checked_batches(rows: int, batch_rows: int, rank: int, world: int) -> tuple[int, int, int]:
    """(batch_rows, rank, world) of a store of so many rows, as ints; ValueError if they do not
    fit."""
    batch_rows, world = whole("batch_rows", batch_rows, 1), whole("world", world, 1)
    rank = whole("rank", rank)
    if rank >= world:
        raise ValueError(f"rank must be in 0 … {world - 1}, got {rank}")
    if batch_rows * world > rows:
        raise ValueError(
            f"batch_rows must be at most the store's {rows} rows over {world} ranks, got"
            f" {batch_rows}; take smaller batches or harvest more rows"
        )
    return batch_rows, rank, world


def _resume(state: Any, identity: dict[str, int]) -> int:
    """The row at which to continue; refuses a state of another order."""
    if state is None:
        return 0
    state = checked_state(state)
    for name in ("seed", "store_rows", "interleave", "shuffle_rows"):
        if state.get(name) != identity.get(name):
            raise ValueError(
                f"{name} must be {state.get(name)} as in the stream's state, got"
                f" {identity.get(name)};"
                " continue on the same store with the same settings"
            )
    return state["row"]
