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
of the figures took 7 µs, as long as compressing two rows. A cold read is timed the first time,
after another process has done it, and after the kernel was asked to drop the files' pages
(posix_fadvise; it keeps those that a process has mapped). Its seconds are those of the loop alone,
its peak is the most anonymous memory beyond that before the loop, sampled; its CPU time (all
threads, the least of the repeats) says what it costs where other work shares the machine. Writing
includes a final fsync for everybody.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch
from recording import record, surroundings
from store_systems import READERS, SYSTEMS, WRITERS

PACKAGES = ("zarr", "numcodecs", "numpy", "torch", "datasets", "safetensors")


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
    if phase == "cold":
        drop_pages(folder)  # before anything maps them: mapped pages stay
    work = make(codec, folder, rows, width)
    if phase != "cold":
        work()
    if phase == "write":
        shutil.rmtree(folder)
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
        if phase == "cold":
            run_child(system, "warm", folder, args)
        found.append(run_child(system, phase, folder, args))
    return found


def run_child(system: str, phase: str, folder: Path, args: argparse.Namespace) -> dict:
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, "--child", system, phase, str(folder)]
    command += ["--rows", str(args.rows), "--width", str(args.width)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{system} {phase} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def row_of(system: str, phase: str, runs: list[dict], n_bytes: int, args) -> dict:
    """One CSV row."""
    speeds = [args.rows / run["seconds"] for run in runs]
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
    } | surroundings("cpu", PACKAGES)


def show(row: dict) -> None:
    """Prints a row and records it."""
    print("  ".join(f"{name} {row[name]}" for name in list(row)[:9]), flush=True)
    record("store", row)


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
            show(row_of(system, "write", runs, n_bytes, args))
            for reader in [name for name in READERS if name.partition(" ")[0] == system]:
                for phase in ("cold", "warm"):
                    runs = measure(reader, phase, place, args)
                    show(row_of(reader, phase, runs, n_bytes, args))
            shutil.rmtree(place)


if __name__ == "__main__":
    main()
