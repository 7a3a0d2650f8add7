"""Makes small activation stores with known rows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scopeworks.store import StoreSpec, StoreWriter

SITES = {"resid_post.1": 24, "mlp_out.0": 7}
ROWS, BUCKET, CHUNK, SHARD = 700, 192, 32, 64


@dataclass(frozen=True)
class Made:
    """A store and the rows that were put into it, in the order they were appended."""

    url: str
    spec: StoreSpec
    rows: dict[str, torch.Tensor]


def spec_of(**changes) -> StoreSpec:
    """The usual spec: 700 rows in buckets of 192, shards of 64, chunks of 32."""
    sizes: dict[str, Any] = {
        "rows": ROWS,
        "bucket_rows": BUCKET,
        "chunk_rows": CHUNK,
        "shard_rows": SHARD,
    }
    return StoreSpec(**({"sites": SITES, "seed": 5} | sizes | changes))


def rows_of(spec: StoreSpec) -> dict[str, torch.Tensor]:
    """Normal rows of different scales per channel, float32, the same for every call."""
    generator = torch.Generator().manual_seed(11)
    return {
        site: torch.randn(spec.rows, width, generator=generator) * torch.logspace(-2, 2, width)
        for site, width in spec.sites.items()
    }


def fill(writer: StoreWriter, rows: dict[str, torch.Tensor], bucket: int, step: int = 50) -> None:
    """Writes one bucket in appends of `step` rows; row r is token r % 97 of sequence r // 10,
    position r % 10."""
    start, stop = writer.bucket_range(bucket)
    with writer.bucket(bucket) as opened:
        for first in range(start, stop, step):
            last = min(first + step, stop)
            number = torch.arange(first, last)
            opened.append(
                {site: x[first:last] for site, x in rows.items()},
                token=number % 97,
                sequence=number // 10,
                position=number % 10,
            )


def big_spec(rows: int = 3000) -> StoreSpec:
    """Enough shards that a kill falls anywhere: 3 buckets of 4 shards and 5 arrays."""
    return spec_of(rows=rows, bucket_rows=1024, shard_rows=256)


def continue_store(url: str, buckets: list[int], background: bool) -> None:
    """What a harvest does: writes the buckets that are not committed yet. It stands here so that
    another process can import it."""
    spec = big_spec()
    rows = rows_of(spec)
    with StoreWriter.open(url, spec, background=background) as writer:
        for bucket in sorted(set(buckets) - writer.committed):
            fill(writer, rows, bucket, step=100)


def make_store(url: Path | str, **changes) -> Made:
    """Writes a whole store."""
    spec = spec_of(**changes)
    rows = rows_of(spec)
    with StoreWriter.open(url, spec) as writer:
        for bucket in range(writer.n_buckets):
            fill(writer, rows, bucket)
    return Made(str(url), spec, rows)


def numbers(store, start: int, stop: int) -> torch.Tensor:
    """Which appended row each stored row is, from its labels."""
    labels = store.labels(start, stop)
    return torch.from_numpy(labels.sequence * 10 + labels.position)
