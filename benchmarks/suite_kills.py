"""Kills the demo's suite many times and compares its release with that of an undisturbed run.

    python benchmarks/suite_kills.py [--kills 10] [--seed 0]

One run goes to its end. Another is killed with SIGKILL and started again many times, each time
after a random time that is at most the length of the first run. Every file of both releases is
compared. A row of `results/suite_kills.csv` has the moments.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from recording import record, surroundings


def run(out: Path, limit_s: float | None = None) -> bool:
    """Runs the demo's suite and kills it at the time limit; returns whether it ended before."""
    command = [sys.executable, "-m", "scopeworks", "run", "demo", "--set", f"out={out}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        if process.wait(limit_s):
            raise SystemExit(f"the run failed with exit code {process.returncode}")
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
    return True


def release(out: Path) -> dict[str, bytes]:
    """Path in the release -> content."""
    files = [path for path in (out / "release").rglob("*") if path.is_file()]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    moments = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder, "whole"), Path(folder, "killed")
        began = time.monotonic()
        run(whole)
        whole_s = time.monotonic() - began
        began, at, runs = time.monotonic(), [], 0
        while len(at) < args.kills:
            at.append(moments.uniform(0.5, whole_s / 3))
            runs += 1
            if run(killed, at[-1]):
                at.pop()
                break
        run(killed)
        same = release(whole) == release(killed) and bool(release(whole))
        row = {
            "kills": len(at),
            "seed": args.seed,
            "whole_s": round(whole_s, 1),
            "killed_s": round(time.monotonic() - began, 1),
            "killed_at_s": " ".join(f"{moment:.1f}" for moment in at),
            "files": len(release(whole)),
            "same_release": same,
        }
        record("suite_kills", row | surroundings("cpu", ("torch", "numpy", "zarr")))
        print(row)
        if not same:
            raise SystemExit("the releases differ")


if __name__ == "__main__":
    main()
