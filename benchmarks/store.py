"""How fast activations are written and read: this store against three other ways to keep them.

    python benchmarks/store.py                       131,072 rows of 2,304, three repeats
    python benchmarks/store.py --rows 32768 --repeats 1 --only exact datasets

The same rows everywhere: normal with log-normal channel scales and a few outlier channels, rounded
to bfloat16 as Gemma 2 computes them, handed over in blocks of 4,096 (ours gets bfloat16, the others
float32, ready made). Peers: `datasets` with an Array2D float32 column of sequences of 128 rows, one
shard per block, as SAELens caches them; one raw float32 memory map; safetensors shards of 16,384
rows. They are read in order, batch by batch of 4,096 rows; ours through its stream, that is
shuffled. `memmap shuffled` gathers random rows of the map, which is what a trainer would need from
it.

Every figure comes from a process of its own that does the work twice and times the second time: in
a virtual machine the first use of a page of memory costs a fault in the host, which on the machine
of the figures took 7 µs, as long as compressing a row. Its seconds are those of the loop alone, its
peak is the most anonymous memory beyond that before the loop, sampled; its CPU time (all threads,
the least of the repeats) says what it costs where other work shares the machine. Cold means that
the kernel was asked to drop the files' pages (posix_fadvise) before. Writing includes a final fsync
for everybody.
"""

import argparse
import csv
import datetime
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "store.csv"
SITE = "resid_post.12"
BLOCK, BATCH, CONTEXT, SHARD = 4096, 4096, 128, 16384
OURS = ("exact", "fast", "float32")
SYSTEMS = (*OURS, "datasets", "memmap", "safetensors")
Blocks = Iterator[tuple[int, torch.Tensor]]


def rows_of(rows: int, width: int, dtype: torch.dtype) -> Blocks:
    """(first row, block) of the benchmark's rows; two blocks take turns, so that making them costs
    nothing."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.exp(0.7 * torch.randn(width, generator=generator))
    scale[torch.randint(0, width, (4,), generator=generator)] *= 50
    made = [
        (torch.randn(BLOCK, width, generator=generator) * scale).bfloat16().to(dtype)
        for _ in range(2)
    ]
    for first in range(0, rows, BLOCK):
        yield first, made[first // BLOCK % 2][: rows - first]


def write_ours(codec: str, folder: Path, rows: int, width: int) -> Callable[[], None]:
    from scopeworks.store import StoreSpec, StoreWriter

    spec = StoreSpec(sites={SITE: width}, rows=rows, codec=codec)
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


def read_ours(_codec: str, folder: Path, rows: int, width: int) -> Callable[[], float]:
    from scopeworks.store import ActivationStore

    def read() -> float:
        total = 0.0
        with ActivationStore.open(folder).stream(SITE, BATCH) as stream:
            for _ in range(rows // BATCH):
                total += float(next(stream)[0, 0])
        return total

    return read


def read_datasets(_codec: str, folder: Path, rows: int, width: int) -> Callable[[], float]:
    import datasets

    shards: list[Any] = [datasets.load_from_disk(str(p)) for p in sorted(folder.iterdir())]
    whole: Any = datasets.concatenate_datasets(shards)
    whole.set_format(type="torch", columns=[SITE], dtype=torch.float32)

    def read() -> float:
        total, step = 0.0, BATCH // CONTEXT
        for first in range(0, rows // CONTEXT, step):
            batch = whole[first : first + step][SITE]
            total += float(batch.reshape(-1, width)[0, 0])
        return total

    return read


def read_memmap(_codec: str, folder: Path, rows: int, width: int) -> Callable[[], float]:
    def read() -> float:
        map_ = np.memmap(folder / "rows.f32", np.float32, "r", shape=(rows, width))
        total = 0.0
        for first in range(0, rows, BATCH):
            total += float(torch.from_numpy(np.array(map_[first : first + BATCH]))[0, 0])
        return total

    return read


def read_memmap_shuffled(_codec: str, folder: Path, rows: int, width: int) -> Callable[[], float]:
    order = np.random.default_rng(0).permutation(rows)

    def read() -> float:
        map_ = np.memmap(folder / "rows.f32", np.float32, "r", shape=(rows, width))
        total = 0.0
        for first in range(0, rows, BATCH):
            total += float(torch.from_numpy(map_[order[first : first + BATCH]])[0, 0])
        return total

    return read


def read_safetensors(_codec: str, folder: Path, rows: int, width: int) -> Callable[[], float]:
    from safetensors import safe_open

    def read() -> float:
        total = 0.0
        for path in sorted(folder.iterdir()):
            with safe_open(path, "pt") as file:
                part = file.get_slice(SITE)
                for first in range(0, SHARD, BATCH):
                    total += float(part[first : first + BATCH].clone()[0, 0])
        return total

    return read


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


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def sync(folder: Path) -> None:
    for path in files(folder):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def drop_pages(folder: Path) -> None:
    for path in files(folder):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


class Peak:
    """Largest resident memory of anonymous pages while it runs, sampled; page cache of mapped files
    apart."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._before = self._now()
        self.bytes = 0
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _now(self) -> int:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.split("RssAnon:")[1].split()[0])

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.bytes = max(self.bytes, self._now() - self._before)

    def stop(self) -> int:
        self._stop.set()
        self._thread.join()
        return self.bytes


def child(system: str, phase: str, folder: Path, rows: int, width: int) -> None:
    """One measurement in this process; prints it as JSON."""
    torch.set_num_threads(2)
    codec = system.partition(" ")[0]
    make = WRITERS[system] if phase == "write" else READERS[system]
    work = make(codec, folder, rows, width)
    work()
    if phase == "write":
        shutil.rmtree(folder)
    if phase == "cold":
        drop_pages(folder)
    peak, started, cpu = Peak(), time.perf_counter(), time.process_time()
    work()
    if phase == "write":
        sync(folder)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    print(json.dumps({"seconds": seconds, "cpu_s": cpu, "peak_bytes": peak.stop()}))


def measure(system: str, phase: str, folder: Path, args: argparse.Namespace) -> list[dict]:
    """Repeats a measurement; writing starts from an empty folder each time."""
    found = []
    for _ in range(args.repeats):
        if phase == "write":
            shutil.rmtree(folder, ignore_errors=True)
        command = [sys.executable, __file__, "--child", system, phase, str(folder)]
        command += ["--rows", str(args.rows), "--width", str(args.width)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{system} {phase} failed:\n{done.stderr}")
        found.append(json.loads(done.stdout.splitlines()[-1]))
    return found


def record(system: str, phase: str, runs: list[dict], n_bytes: int, args) -> dict:
    """One CSV row."""
    speeds = [args.rows / run["seconds"] for run in runs]
    versions = ("scopeworks", "zarr", "numcodecs", "numpy", "torch", "datasets", "safetensors")
    return {
        "system": system,
        "phase": phase,
        "rows_per_s": round(statistics.median(speeds)),
        "slowest": round(min(speeds)),
        "fastest": round(max(speeds)),
        "cpu_us_per_row": round(min(run["cpu_s"] for run in runs) / args.rows * 1e6, 2),
        "float32_gb_per_s": round(statistics.median(speeds) * args.width * 4 / 1e9, 3),
        "bits_per_value": round(8 * n_bytes / (args.rows * args.width), 2),
        "peak_mib": round(max(run["peak_bytes"] for run in runs) / 2**20),
        "rows": args.rows,
        "width": args.width,
        "repeats": args.repeats,
        "device": f"{os.cpu_count()} cores {platform.machine()}, load {os.getloadavg()[0]:.1f}",
        "versions": " ".join(f"{name}={importlib.metadata.version(name)}" for name in versions),
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M"),
    }


def commit() -> str:
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def append(row: dict) -> None:
    print("  ".join(f"{name} {row[name]}" for name in list(row)[:9]), flush=True)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures this store against three other ways.")
    parser.add_argument("--rows", type=int, default=131_072)
    parser.add_argument("--width", type=int, default=2304)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        system, phase, folder = args.child
        child(system, phase, Path(folder), args.rows, args.width)
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for system in args.only:
            place = Path(folder, system)
            runs = measure(system, "write", place, args)
            n_bytes = sum(path.stat().st_size for path in files(place))
            append(record(system, "write", runs, n_bytes, args))
            for reader in [name for name in READERS if name.partition(" ")[0] == system]:
                for phase in ("cold", "warm"):
                    runs = measure(reader, phase, place, args)
                    append(record(reader, phase, runs, n_bytes, args))
            shutil.rmtree(place)


if __name__ == "__main__":
    main()
