"""How fast a store is streamed from, and written to, an object store that answers late.

    python benchmarks/clouds.py                        50 ms an answer, 100 MB/s a connection

Objects are held in memory behind an fsspec file system in which every request waits and every
connection has a bandwidth. The number of connections is not limited, as for real object stores. So
this shows how much waiting is hidden, not the speed of a cloud's network or the cost of its driver.
Rows as in `store.py`, in two buckets of eight shards of 52 MB (a large store has 18 shards of 180
MB in a bucket). One process, codec `exact`; results go to benchmarks/results/clouds.csv.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

import fsspec
import torch
from fsspec.asyn import AsyncFileSystem
from recording import record, surroundings
from store_systems import BATCH, SITE, write_ours

from scopeworks.store import ActivationStore

OBJECTS: dict[str, bytes] = {}
PLACE = {"latency_s": 0.0, "bytes_per_s": 1e12}


class FarObjects(AsyncFileSystem):
    """An object store in memory with the delays of a remote one."""

    protocol = "far"
    cachable = False

    def _key(self, path: str) -> str:
        return str(self._strip_protocol(path)).rstrip("/")

    async def _request(self, n_bytes: int) -> None:
        await asyncio.sleep(PLACE["latency_s"] + n_bytes / PLACE["bytes_per_s"])

    async def _cat_file(self, path, start=None, end=None, **_options) -> bytes:
        data = OBJECTS.get(self._key(path))
        if data is None:
            raise FileNotFoundError(path)
        data = data[start:end]
        await self._request(len(data))
        return data

    async def _pipe_file(self, path, value, mode="overwrite", **_options) -> Any:
        await self._request(len(value))
        OBJECTS[self._key(path)] = bytes(value)

    async def _rm_file(self, path, **_options) -> Any:
        await self._request(0)
        if OBJECTS.pop(self._key(path), None) is None:
            raise FileNotFoundError(path)

    async def _info(self, path, **_options) -> dict[str, Any]:
        await self._request(0)
        if self._key(path) not in OBJECTS:
            raise FileNotFoundError(path)
        return {"name": path, "size": len(OBJECTS[self._key(path)]), "type": "file"}

    async def _ls(self, path, detail=True, **_options) -> list:
        await self._request(0)
        prefix = self._key(path) + "/"
        rest = (name.removeprefix(prefix) for name in OBJECTS if name.startswith(prefix))
        names = sorted({prefix + name.partition("/")[0] for name in rest})
        if not names:
            raise FileNotFoundError(path)
        return [{"name": n, "size": 0, "type": "file"} for n in names] if detail else names


def streamed(url: str, threads: int | None, rows: int) -> float:
    """Rows a second after the first batches."""
    batches = rows // BATCH
    with ActivationStore.open(url).stream(SITE, BATCH, threads=threads) as stream:
        for _ in islice(stream, 8):
            pass
        started = time.perf_counter()
        for _ in islice(stream, batches):
            pass
        return batches * BATCH / (time.perf_counter() - started)


def seconds_of(write: Callable[[], None]) -> float:
    OBJECTS.clear()
    started = time.perf_counter()
    write()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=2**18)
    parser.add_argument("--width", type=int, default=2304)
    parser.add_argument("--latency-ms", type=float, default=50)
    parser.add_argument("--mb-per-s", type=float, default=100, help="of one connection")
    parser.add_argument("--threads", type=int, nargs="*", default=[2, 8, 32, 64])
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    fsspec.register_implementation("far", FarObjects)
    PLACE.update(latency_s=args.latency_ms / 1e3, bytes_per_s=args.mb_per_s * 1e6)

    def show(work: str, speeds: list[float]) -> None:
        row = {
            "work": work,
            "rows_per_s": round(statistics.median(speeds)),
            "slowest": round(min(speeds)),
            "fastest": round(max(speeds)),
            "latency_ms": args.latency_ms,
            "mb_per_s_a_connection": args.mb_per_s,
            "rows": args.rows,
            "width": args.width,
            "repeats": args.repeats,
        }
        print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        record("clouds", row | surroundings("cpu", ("zarr", "numcodecs", "fsspec", "torch")))

    sizes = {"bucket_rows": args.rows // 2, "chunk_rows": 256, "shard_rows": args.rows // 16}
    write = write_ours("exact", "far://store", args.rows, args.width, **sizes)
    speeds = [args.rows / seconds_of(write) for _ in range(args.repeats + 1)]
    show("write", speeds[1:])  # the first use of memory is slow, as in store.py
    for threads in args.threads:
        speeds = [streamed("far://store", threads, args.rows) for _ in range(args.repeats)]
        show(f"stream, {threads} threads", speeds)


if __name__ == "__main__":
    main()
