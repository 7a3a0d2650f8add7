"""The systems that benchmarks/store.py compares: this store, HF datasets, memory maps, safetensors.

Owns the rows that all get, and how each system writes and reads them.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

SITE = "resid_post.12"
BLOCK, BATCH, CONTEXT, SHARD = 4096, 4096, 128, 16384
OURS = ("exact", "fast", "float32")
SYSTEMS = (*OURS, "datasets", "memmap", "safetensors")
Blocks = Iterator[tuple[int, torch.Tensor]]
Batches = Iterator[torch.Tensor]
"""Endless batches, float32 [BATCH, d]."""


def rows_of(rows: int, width: int, dtype: torch.dtype) -> Blocks:
    """(first row, block) of the benchmark's rows; two ready blocks alternate, so that making them
    takes no time."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.exp(0.7 * torch.randn(width, generator=generator))
    scale[torch.randint(0, width, (4,), generator=generator)] *= 50
    made = [
        (torch.randn(BLOCK, width, generator=generator) * scale).bfloat16().to(dtype)
        for _ in range(2)
    ]
    for first in range(0, rows, BLOCK):
        yield first, made[first // BLOCK % 2][: rows - first]


def write_ours(
    codec: str, folder: Path | str, rows: int, width: int, **sizes: int
) -> Callable[[], None]:
    from scopeworks.store import StoreSpec, StoreWriter

    spec = StoreSpec.model_validate({"sites": {SITE: width}, "rows": rows, "codec": codec} | sizes)
    blocks = list(rows_of(2 * BLOCK, width, torch.bfloat16))

    def write() -> None:
        with StoreWriter.open(folder, spec, background=True, memory_bytes=2**31) as writer:
            for i in range(writer.n_buckets):
                start, stop = writer.bucket_range(i)
                with writer.bucket(i) as bucket:
                    for first in range(start, stop, BLOCK):
                        n = min(BLOCK, stop - first)
                        number = np.arange(first, first + n)
                        block = blocks[first // BLOCK % 2][1][:n]
                        bucket.append(
                            {SITE: block},
                            token=number % 50_000,
                            sequence=number // CONTEXT,
                            position=number % CONTEXT,
                        )

    return write


def write_datasets(_codec: str, folder: Path, rows: int, width: int) -> Callable[[], None]:
    import datasets

    datasets.disable_progress_bars()
    features = datasets.Features({SITE: datasets.Array2D(shape=(CONTEXT, width), dtype="float32")})
    blocks = list(rows_of(2 * BLOCK, width, torch.float32))

    def write() -> None:
        for first in range(0, rows, BLOCK):
            block = blocks[first // BLOCK % 2][1].view(-1, CONTEXT, width)
            shard = datasets.Dataset.from_dict({SITE: block}, features=features)
            shard.save_to_disk(str(folder / f"shard_{first:010d}"))

    return write


def write_memmap(_codec: str, folder: Path, rows: int, width: int) -> Callable[[], None]:
    blocks = list(rows_of(2 * BLOCK, width, torch.float32))

    def write() -> None:
        folder.mkdir(parents=True)
        with (folder / "rows.f32").open("wb") as file:
            for first in range(0, rows, BLOCK):
                file.write(blocks[first // BLOCK % 2][1].numpy().data)

    return write


def write_safetensors(_codec: str, folder: Path, rows: int, width: int) -> Callable[[], None]:
    from safetensors.torch import save_file

    blocks = list(rows_of(2 * BLOCK, width, torch.float32))
    shard = torch.cat([blocks[i % 2][1] for i in range(SHARD // BLOCK)])

    def write() -> None:
        folder.mkdir(parents=True)
        for first in range(0, rows, SHARD):
            save_file({SITE: shard}, folder / f"{first:010d}.safetensors")

    return write


def read_ours(_codec: str, folder: Path, _rows: int, _width: int) -> Batches:
    from scopeworks.store import ActivationStore

    with ActivationStore.open(folder).stream(SITE, BATCH) as stream:
        yield from stream


def read_datasets(_codec: str, folder: Path, rows: int, width: int) -> Batches:
    import datasets

    shards: list[Any] = [datasets.load_from_disk(str(p)) for p in sorted(folder.iterdir())]
    whole: Any = datasets.concatenate_datasets(shards)
    whole.set_format(type="torch", columns=[SITE], dtype=torch.float32)
    while True:
        for first in range(0, rows // CONTEXT, BATCH // CONTEXT):
            batch = whole[first : first + BATCH // CONTEXT][SITE]
            yield batch.reshape(-1, width)


def read_memmap(_codec: str, folder: Path, rows: int, width: int) -> Batches:
    while True:
        map_ = np.memmap(folder / "rows.f32", np.float32, "r", shape=(rows, width))
        for first in range(0, rows, BATCH):
            yield torch.from_numpy(np.array(map_[first : first + BATCH]))


def read_memmap_shuffled(_codec: str, folder: Path, rows: int, width: int) -> Batches:
    order = np.random.default_rng(0).permutation(rows)
    while True:
        map_ = np.memmap(folder / "rows.f32", np.float32, "r", shape=(rows, width))
        for first in range(0, rows, BATCH):
            yield torch.from_numpy(map_[order[first : first + BATCH]])


def read_safetensors(_codec: str, folder: Path, _rows: int, _width: int) -> Batches:
    from safetensors import safe_open

    while True:
        for path in sorted(folder.iterdir()):
            with safe_open(path, "pt") as file:
                part = file.get_slice(SITE)
                for first in range(0, SHARD, BATCH):
                    yield part[first : first + BATCH].clone()


WRITERS = {
    **dict.fromkeys(OURS, write_ours),
    "datasets": write_datasets,
    "memmap": write_memmap,
    "safetensors": write_safetensors,
}
READERS = {
    **dict.fromkeys(OURS, read_ours),
    "datasets": read_datasets,
    "memmap": read_memmap,
    "memmap shuffled": read_memmap_shuffled,
    "safetensors": read_safetensors,
}
