"""A process of its own that trains and prints what it took: `python -m scopeworks.tests.train.peak
FOLDER MEMBERS`.

Prints one JSON object: the estimate and the peaks of a fresh and of a resumed run, in bytes of
anonymous memory above what the process held before.
"""

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch

from scopeworks.train.run.memory import bytes_for
from scopeworks.train.run.rows import TrainingRows
from scopeworks.train.run.trainer import run
from scopeworks.train.settings import TrainSettings

from .conftest import SITE, write_store

WIDTH, D_IN, BATCH = 65536, 64, 128


def anonymous_bytes() -> int:
    """What the process holds beside mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024


def peak_while(run: Callable[[], object]) -> int:
    """The most that the process held beside mapped files while something ran."""
    peak = anonymous_bytes()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, anonymous_bytes())
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        run()
    finally:
        done.set()
        watcher.join()
    return peak


def peak_of(members: list[TrainSettings], resume: bool) -> int:
    """Peak of a run above what was held before it."""
    base = anonymous_bytes()
    return peak_while(lambda: run(members, resume)) - base


def main(folder: Path, n_members: int) -> None:
    """Trains members fresh and goes on with them."""
    torch.set_num_threads(1)
    url = write_store(folder, {SITE: D_IN})

    def members(n: int, **overrides: object) -> list[TrainSettings]:
        values = {"store": url, "site": SITE, "width": WIDTH, "batch": BATCH, "steps": 2}
        values |= {"theta_start": 0.05, "sparsity_warmup_steps": 0, "measure_rows": 2 * BATCH}
        values |= {"device": "cpu", "lr_warmup_steps": 0} | overrides
        outs = [folder / f"{values['width']}-{i}" for i in range(n)]
        return [TrainSettings.model_validate(values | {"out": out}) for out in outs]

    run(members(1, width=64))  # compiles the kernels
    estimate = bytes_for(members(n_members), TrainingRows.open(members(1)[0]), torch.device("cpu"))
    fresh = peak_of(members(n_members), resume=False)
    resumed = peak_of(members(n_members, steps=3), resume=True)
    print(json.dumps({"estimate": estimate, "fresh": fresh, "resumed": resumed}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
