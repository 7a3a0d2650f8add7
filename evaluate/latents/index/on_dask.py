"""Does the parts of a pass, in this process or on Dask workers.

Owns the task that a worker runs, and the waiting for it. A part is a task, and its file is the
result. If a worker dies, another worker does its part again.
"""

import json
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock
from typing import Any

import torch

from ....console import progress
from ....harvest.settings import from_driver, to_worker
from ....settings import differences
from ....workers.cluster import RETRIES, Watch, check_done, connect
from .firing import FILL, Do, Pass
from .inputs import Inputs
from .parts import IndexPart
from .settings import IndexSettings

_POLL_S = 0.1
_ONE_AT_A_TIME = Lock()


@contextmanager
def doing(work: Pass) -> Iterator[Do]:
    """A function that does parts: in this process, or on the cluster of `settings.dask`.

    Raises:
        OSError: the scheduler does not answer, or a part failed on every worker that tried it.
        ValueError: `settings.dask` is not a cluster, or a worker has other inputs.
    """
    dask = work.inputs.settings.dask
    if dask is None:
        yield lambda stage, parts, key: _done_here(work, stage, parts, key)
        return
    with connect(dask) as client:
        yield lambda stage, parts, key: _done_there(client, work, stage, parts, key)


def _done_here(work: Pass, stage: str, parts: Collection[IndexPart], key: str) -> None:
    with progress(f"index: {stage}", sum(p.rows(stage == FILL) for p in parts), "rows") as bar:
        for part in parts:
            work.do(stage, part, key, bar.advance)


def _done_there(
    client: Any, work: Pass, stage: str, parts: Collection[IndexPart], key: str
) -> None:
    settings = work.inputs.settings
    sent = to_worker(settings), json.dumps(work.inputs.facts), torch.get_num_threads()
    with progress(f"index: {stage}", sum(p.rows(stage == FILL) for p in parts), "rows") as bar:
        waiting = {
            part: client.submit(_do, *sent, stage, part.number, key, pure=False, retries=RETRIES)
            for part in parts
        }
        watch = Watch(client)
        while waiting:
            watch.processing()
            for part in [part for part, future in waiting.items() if future.done()]:
                check_done(waiting.pop(part), f"part {part.number}")
                bar.advance(part.rows(stage == FILL))
            time.sleep(_POLL_S if waiting else 0)


def _do(sent: str, facts: str, n_threads: int, stage: str, number: int, key: str) -> None:
    """The task: does a part on this worker. The file is its result."""
    # As many threads as the command has: sums that are cut in another way round differently.
    torch.set_num_threads(n_threads)
    with _ONE_AT_A_TIME:
        work = _work_here(sent, facts)
        work.do(stage, work.parts[number], key, _show_nothing)


@lru_cache(maxsize=1)
def _work_here(sent: str, facts: str) -> Pass:
    """This worker's inputs, read once and checked against the command's."""
    inputs = Inputs.load(from_driver(IndexSettings, sent))
    if changed := differences(json.loads(facts), inputs.facts):
        raise ValueError(
            f"every worker must have the same inputs, one has {'; '.join(changed)}; put them where "
            "all workers reach them"
        )
    return Pass(inputs)


def _show_nothing(_n: int) -> None:
    """Shows no progress on a worker: the command shows it."""
