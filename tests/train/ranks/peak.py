"""A rank that trains, goes on, and prints what it took.

    python -m scopeworks.tests.train.ranks.peak STORE OUT

Prints the peak of both runs in bytes of anonymous memory above what an idle process holds that has
imported the same.
"""

import sys
from pathlib import Path

import torch

from scopeworks.train.ranks.joining import joined
from scopeworks.train.run.trainer import run
from scopeworks.train.settings import TrainSettings

from ..conftest import SITE
from ..peak import anonymous_bytes, peak_while

WIDTH, D_IN, BATCH = 65536, 512, 64


def main(store: str, out: Path) -> None:
    """Trains two updates, then a third."""
    torch.set_num_threads(1)
    values = {"store": store, "site": SITE, "out": out, "width": WIDTH, "batch": BATCH, "steps": 2}
    values |= {"theta_start": 0.5, "sparsity_warmup_steps": 0, "lr_warmup_steps": 0}
    values |= {"measure_rows": BATCH, "device": "cpu", "backend": "cpu/sparse"}
    idle = anonymous_bytes()
    peaks = []
    with joined() as world:
        for steps in (2, 3):
            one = TrainSettings.model_validate(values | {"steps": steps})
            held = peak_while(lambda one=one: run([one], one.steps == 3, world=world))
            peaks.append(held - idle)
    print(f"peak {max(peaks)}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
