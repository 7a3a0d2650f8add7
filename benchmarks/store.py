"""How fast activations are written and read: this store compared with three other formats.

    python benchmarks/store.py                       262,144 rows of 2,304, three rounds
    python benchmarks/store.py --rows 32768 --rounds 1 --only exact datasets

All get the same rows: normal values with log-normal channel scales and a few outlier channels,
rounded to bfloat16 as Gemma 2 computes them, in blocks of 4,096 (ours gets bfloat16, the others
float32, made before). The peers are `datasets` with an Array2D float32 column of sequences of 128
rows, one shard per block, as SAELens caches them; one raw float32 memory map; and safetensors
shards of 16,384 rows. They are read in order, in batches of 4,096 rows; ours is read through its
stream, which shuffles. `memmap shuffled` gathers random rows of the map, as a trainer would need
them.

How it is measured:

- The systems take turns, and each round begins with another system, so that a machine whose speed
  drifts affects all alike. Every figure comes from its own process.
- Writing is done four times and timed after the first. In a virtual machine the first use of a page
  of memory costs a fault in the host; on the machine of the figures this took 7 µs, as long as
  compressing two rows. For every system the time includes a final fsync.
- A warm read is timed over three passes, after a first one.
- A cold read is timed over the first pass, after another process has read the files and the kernel
  was told to drop their pages (posix_fadvise; it keeps those that a process has mapped).
- Seconds are those of the loop only. Peak memory is the largest sampled anonymous memory, minus
  that before the loop. CPU time is of all threads, the least of the rounds: the cost if other work
  shares the machine.
- `times_datasets` is the median over the rounds of the speed divided by that of `datasets` in the
  same round.
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
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from recording import record, surroundings
from store_systems import BATCH, READERS, SHARD, SYSTEMS, WRITERS

PACKAGES = ("zarr", "numcodecs", "numpy", "torch", "datasets", "safetensors")
WRITES = WARM_PASSES = 3


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
    """The largest sampled anonymous memory during the block, without pages of mapped files."""

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
    """Makes one measurement in this process; prints it as JSON."""
    torch.set_num_threads(2)
    found = timed_write(system, folder, rows, width) if phase == "write" else None
    print(json.dumps(found or timed_read(system, phase, folder, rows, width)))


def timed_write(system: str, folder: Path, rows: int, width: int) -> dict[str, float]:
    work = WRITERS[system](system, folder, rows, width)
    work()
    with Measured(rows * WRITES) as measured:
        for _ in range(WRITES):
            measured.stop()
            shutil.rmtree(folder)
            measured.start()
            work()
            sync(folder)
    return measured.figures


def timed_read(system: str, phase: str, folder: Path, rows: int, width: int) -> dict[str, float]:
    if phase == "cold":
        drop_pages(folder)  # before anything maps them: mapped pages stay
    batches = READERS[system](system.partition(" ")[0], folder, rows, width)
    a_pass, passes = rows // BATCH, WARM_PASSES if phase == "warm" else 1
    with Measured(rows * passes) as measured:
        if phase == "warm":
            measured.stop()
            touch(batches, a_pass)
            measured.start()
        touch(batches, passes * a_pass)
    return measured.figures


def touch(batches: Iterator[torch.Tensor], n: int) -> None:
    """Reads n batches and one value of each."""
    for batch in islice(batches, n):
        float(batch[0, 0])


class Measured:
    """Rows a second, CPU time a row and peak memory of a block, in which the clock may be stopped
    and started."""

    def __init__(self, rows: int):
        self._rows = rows

    def __enter__(self) -> "Measured":
        self._peak = Peak()
        self._seconds = self._cpu = 0.0
        self.start()
        return self

    def start(self) -> None:
        self._seconds -= time.perf_counter()
        self._cpu -= time.process_time()

    def stop(self) -> None:
        self._seconds += time.perf_counter()
        self._cpu += time.process_time()

    def __exit__(self, *_exception: object) -> None:
        self.stop()
        self.figures = {
            "speed": self._rows / self._seconds,
            "cpu_us": self._cpu / self._rows * 1e6,
            "peak_bytes": self._peak.stop(),
        }


def run_child(system: str, phase: str, folder: Path, args: argparse.Namespace) -> dict:
    """Makes one measurement in a new process."""
    command = [sys.executable, __file__, "--child", system, phase, str(folder)]
    command += ["--rows", str(args.rows), "--width", str(args.width)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{system} {phase} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def one_round(folder: Path, first: int, args: argparse.Namespace) -> dict[tuple[str, str], dict]:
    """Measures every system once, beginning with number `first`: (system, phase) -> figures."""
    found = {}
    readers = [name for name in READERS if name.partition(" ")[0] in args.only]
    for system in rotated(args.only, first):
        place = folder / system
        shutil.rmtree(place, ignore_errors=True)
        found[system, "write"] = run_child(system, "write", place, args)
    for phase in ("cold", "warm"):
        for reader in rotated(readers, first):
            place = folder / reader.partition(" ")[0]
            if phase == "cold":
                run_child(reader, phase, place, args)
            found[reader, phase] = run_child(reader, phase, place, args)
    for (system, phase), figures in found.items():
        print(f"  {system} {phase}: {figures['speed']:,.0f} rows/s", flush=True)
    return found


def rotated(names: Sequence[str], first: int) -> list[str]:
    first %= len(names)
    return [*names[first:], *names[:first]]


def row_of(system: str, phase: str, rounds: list[dict], n_bytes: int, args) -> dict:
    """One CSV row."""
    runs = [found[system, phase] for found in rounds]
    speeds = [run["speed"] for run in runs]
    peer = ("datasets", phase)
    ratios = [
        found[system, phase]["speed"] / found[peer]["speed"] for found in rounds if peer in found
    ]
    return {
        "system": system,
        "phase": phase,
        "rows_per_s": round(statistics.median(speeds)),
        "slowest": round(min(speeds)),
        "fastest": round(max(speeds)),
        "times_datasets": round(statistics.median(ratios), 2) if ratios else "",
        "cpu_us_per_row": round(min(run["cpu_us"] for run in runs), 2),
        "float32_gb_per_s": round(statistics.median(speeds) * args.width * 4 / 1e9, 3),
        "bits_per_value": round(8 * n_bytes / (args.rows * args.width), 2),
        "peak_mib": round(max(run["peak_bytes"] for run in runs) / 2**20),
        "rows": args.rows,
        "width": args.width,
        "rounds": args.rounds,
    } | surroundings("cpu", PACKAGES)


def show(row: dict) -> None:
    """Prints a row and records it."""
    print("  ".join(f"{name} {row[name]}" for name in list(row)[:10]), flush=True)
    record("store", row)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures this store against three other ways.")
    parser.add_argument("--rows", type=int, default=2**18)
    parser.add_argument("--width", type=int, default=2304)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        system, phase, folder = args.child
        child(system, phase, Path(folder), args.rows, args.width)
        return
    if args.rows % SHARD:
        parser.error(f"--rows must be a multiple of {SHARD}, got {args.rows}")
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        rounds = []
        for number in range(args.rounds):
            print(f"round {number + 1}", flush=True)
            rounds.append(one_round(folder, number * 2, args))
        for system, phase in rounds[0]:
            place = folder / system.partition(" ")[0]
            n_bytes = sum(path.stat().st_size for path in files(place))
            show(row_of(system, phase, rounds, n_bytes, args))


if __name__ == "__main__":
    main()
