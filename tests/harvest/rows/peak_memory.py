"""Prints how much memory a harvest takes beside the model and its forward pass, in bytes.

    python peak_memory.py SETTINGS.json

Run as a process of its own by test_memory. The forward pass's own peak is measured first, on the
same batches, with nothing kept; what the harvest takes beyond it is what `memory_gib` bounds. RSS
counts everything: buckets in memory, pages of their files, encoded chunks, threads.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from scopeworks.harvest.model.hooks import forward_until
from scopeworks.harvest.rows.plan import Plan
from scopeworks.harvest.rows.prepare import prepare
from scopeworks.harvest.rows.run import harvest_rows
from scopeworks.harvest.settings import HarvestSettings

WARM_UP_BATCHES = 8


def rss() -> int:
    """Bytes of this process in memory now."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * 4096


@contextmanager
def peak() -> Iterator[list[int]]:
    """A list whose only entry is the highest RSS inside the block, sampled every millisecond."""
    highest, ended = [rss()], threading.Event()

    def watch() -> None:
        while not ended.is_set():
            highest[0] = max(highest[0], rss())
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield highest
    finally:
        ended.set()
        watcher.join()


def main() -> None:
    settings = HarvestSettings.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    job, _ = prepare(settings)
    plan = Plan(job.sequences, job.mask, settings.rows)
    blocks = plan.part(0, plan.rows).blocks(job.sequences, job.mask, job.batch_sequences)
    with peak() as forward:
        for block in islice(blocks, WARM_UP_BATCHES):
            ids = torch.from_numpy(block.tokens.astype(np.int64))
            forward_until(job.model, ids, job.sites, lambda _site, x: x[:0])
    with peak() as whole:
        harvest_rows(settings)
    print(whole[0] - forward[0])


if __name__ == "__main__":
    main()
