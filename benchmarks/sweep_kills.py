"""Kills a Dask worker of a sweep many times and compares the SAEs with those of one process.

    python benchmarks/sweep_kills.py [--kills 3] [--seed 0]

Eight SAEs on random sparse rows: once by `sweep` in one process, once with `--dask local:2`, where
one worker is killed with SIGKILL at random updates, and Dask starts it again. Every file of every
SAE is compared: weights, checkpoints, config.json and metrics.jsonl, without times and places. A
row of `results/sweep_kills.csv` has the updates.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from recording import record, surroundings

from scopeworks.store import StoreSpec, StoreWriter

SITE, STEPS, LOG_EVERY = "resid_post.0", 600, 4
SPARSITIES = ("4e-4", "6e-4", "1e-3", "2e-3", "3e-3", "4e-3")
TIMINGS = {"rows_per_s", "waiting_share"}


def make_store(url: str, d: int = 64, rows: int = 32_768) -> None:
    """Writes a store of rows that are sums of a few of 256 directions, with noise."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(256, d, generator=generator)
    weights = torch.rand(rows, 256, generator=generator)
    weights *= torch.rand(rows, 256, generator=generator) < 0.02
    x = weights @ directions + 0.01 * torch.randn(rows, d, generator=generator)
    spec = StoreSpec(sites={SITE: d}, rows=rows, bucket_rows=4096, codec="float32", seed=0)
    with StoreWriter.open(url, spec) as writer:
        for i in range(writer.n_buckets):
            start, stop = writer.bucket_range(i)
            with writer.bucket(i) as bucket:
                numbers = torch.arange(start, stop).numpy()
                labels = {
                    "token": numbers % 97,
                    "sequence": numbers // 64,
                    "position": numbers % 64,
                }
                bucket.append({SITE: x[start:stop]}, **labels)


def command(store: str, out: Path, *more: str) -> list[str]:
    """The command of the sweep of eight SAEs."""
    words = [sys.executable, "-m", "scopeworks", "sweep", "--store", store, "--site", SITE]
    words += ["--width", "1024", "--steps", str(STEPS), "--batch", "256", "--recipe", "auto"]
    words += [word for sparsity in SPARSITIES for word in ("--sparsity", sparsity)]
    words += ["--target-l0", "6", "--target-l0", "12", "--device", "cpu", "--out", str(out)]
    for pair in (f"log_every={LOG_EVERY}", "checkpoint_every=23", "measure_rows=2048"):
        words += ["--set", pair]
    return [*words, *more]


def furthest(out: Path) -> int:
    """The largest update that a member has reached."""
    files = out.glob("*/metrics.jsonl")
    return LOG_EVERY * max((path.read_bytes().count(b"\n") for path in files), default=0)


def kill_at(process: subprocess.Popen[bytes], out: Path, update: int) -> None:
    """Kills the worker that was started last, once a member has reached an update."""
    while furthest(out) < update:
        if process.poll() is not None:
            raise SystemExit("the sweep ended before it could be disturbed")
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    found = [c for c in children if "--multiprocessing-fork" in " ".join(c.cmdline())]
    max(found, key=psutil.Process.create_time).kill()


def contents(folder: Path) -> dict[str, Any]:
    """Path -> content of the file, without times and places."""
    found: dict[str, Any] = {}
    for path in (path for path in folder.glob("*/**/*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        found[name] = path.read_bytes()
        if path.name == "config.json":
            found[name] = json.loads(found[name])
            found[name]["settings"].pop("out")
        elif path.name == "metrics.jsonl":
            lines = map(json.loads, found[name].splitlines())
            found[name] = [{k: v for k, v in line.items() if k not in TIMINGS} for line in lines]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    updates = sorted(random.Random(args.seed).sample(range(20, STEPS - 100), args.kills))
    with tempfile.TemporaryDirectory() as folder:
        store, whole, killed = str(Path(folder, "store")), Path(folder, "a"), Path(folder, "b")
        make_store(store)
        began = time.monotonic()
        subprocess.run(command(store, whole), check=True)
        whole_s, began = time.monotonic() - began, time.monotonic()
        with subprocess.Popen(command(store, killed, "--dask", "local:2")) as process:
            for update in updates:
                kill_at(process, killed, update)
        if process.returncode:
            raise SystemExit(f"the sweep failed with exit code {process.returncode}")
        one, other = contents(whole), contents(killed)
        row = {
            "kills": args.kills,
            "seed": args.seed,
            "killed_at_update": " ".join(map(str, updates)),
            "whole_s": round(whole_s, 1),
            "killed_s": round(time.monotonic() - began, 1),
            "files": len(one),
            "different": len({n for n in one.keys() | other.keys() if one.get(n) != other.get(n)}),
        }
        record("sweep_kills", row | surroundings("cpu", ("torch", "numpy", "distributed")))
        print(row)
        if row["different"] or not one:
            raise SystemExit("the SAEs differ")


if __name__ == "__main__":
    main()
