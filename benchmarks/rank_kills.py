"""Kills ranks of a training run many times; compares the SAE with that of one process alone.

    python benchmarks/rank_kills.py [--kills 10] [--seed 0] [--steps 400]

One run by one process, then one by torchrun's ranks: a random rank is killed with SIGKILL at a
random moment, and each restart has another number of ranks. Weights, metrics (without times) and
the tensors of the newest checkpoint are compared. A row of `results/rank_kills.csv` has the
moments.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
from recording import record, surroundings
from run_result import result

from scopeworks.tests.train.conftest import SITE, write_store
from scopeworks.train.saved.metrics import read_metrics

LIMIT_S = 600.0


def command(ranks: int, store: str, out: Path, steps: int) -> list[str]:
    """The command of a run by so many ranks; one rank is a process without torchrun."""
    given = {"width": 1536, "steps": steps, "batch": 128, "lr": 2e-3, "theta_start": 0.5}
    given |= {"bandwidth": 0.05, "lr_warmup_steps": 20, "sparsity_warmup_steps": 50}
    given |= {"log_every": 4, "checkpoint_every": 13, "measure_rows": 512, "target_l0": 12}
    given |= {"frequency_penalty": 1.0}
    words = ["-m", "scopeworks", "train", "--store", store, "--out", str(out), "--site", SITE]
    words += ["--device", "cpu"]
    words += [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
    if ranks > 1:
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
        words = [*torchrun, "--nproc-per-node", str(ranks), *words]
    return [sys.executable, *words]


def started(words: list[str]) -> subprocess.Popen[bytes]:
    """Starts the run in its own process group."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )


def ranks_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The ranks that torchrun has started; the process itself without torchrun."""
    me = psutil.Process(process.pid)
    found = [child for child in me.children() if "train" in child.cmdline()]
    return found or [me]


def newest_step(out: Path) -> int:
    """The newest step in the metrics so far."""
    with suppress(OSError, ValueError):
        lines = read_metrics(out)
        return lines[-1]["step"] if lines else 0
    return 0


def killed_at(words: list[str], out: Path, step: int, after_s: float, chosen: random.Random) -> int:
    """Kills a random rank a moment after the run has reached a step.

    Returns:
        The newest step in the metrics then.

    Raises:
        ValueError: the run ended before.
    """
    process, began = started(words), time.monotonic()
    while newest_step(out) < step and time.monotonic() - began < LIMIT_S:
        if process.poll() is not None:
            raise ValueError(f"the run ended before update {step} with {process.returncode}")
        time.sleep(0.02)
    time.sleep(after_s)
    with suppress(psutil.NoSuchProcess):
        chosen.choice(ranks_of(process)).send_signal(signal.SIGKILL)
    if process.wait(LIMIT_S) == 0:
        raise ValueError("the run ended before its rank was killed")
    return newest_step(out)


def to_the_end(words: list[str]) -> None:
    """Runs to the end without a kill."""
    code = started(words).wait(LIMIT_S)
    if code:
        raise SystemExit(f"the run failed with exit code {code}")


def kill_often(folder: Path, kills: int, seed: int, steps: int) -> dict[str, object]:
    """Trains both ways in a folder; returns the moments, and whether the results are the same."""
    chosen, whole, killed = random.Random(seed), folder / "whole", folder / "killed"
    store = write_store(folder, {SITE: 16})
    to_the_end(command(1, store, whole, steps))
    ranks, at, numbers, began = 0, [], [], time.monotonic()
    for step in sorted(chosen.sample(range(5, steps - 60), kills)):
        ranks = chosen.choice([n for n in (1, 2, 3, 4) if n != ranks])
        numbers.append(ranks)
        words = command(ranks, store, killed, steps)
        at.append(killed_at(words, killed, step, chosen.uniform(0, 0.1), chosen))
    to_the_end(command(3 if ranks != 3 else 2, store, killed, steps))
    return {
        "kills": kills,
        "seed": seed,
        "steps": steps,
        "ranks": " ".join(map(str, numbers)),
        "killed_at": " ".join(map(str, at)),
        "killed_s": round(time.monotonic() - began, 1),
        "same": result(whole) == result(killed),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=400)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        row = kill_often(Path(folder), args.kills, args.seed, args.steps)
    record("rank_kills", row | surroundings("cpu", ("torch", "numpy")))
    print(row)
    if not row["same"]:
        raise SystemExit("the results differ")


if __name__ == "__main__":
    main()
