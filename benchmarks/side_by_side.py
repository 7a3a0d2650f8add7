"""Runs of a campaign in several processes at once.

Owns which run begins when a process is free. What a campaign still lacks may depend on what has
ended, so it is asked for anew each time. Needs the standard library alone.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import TypeVar

Run = TypeVar("Run")
Found = TypeVar("Found")


def side_by_side(
    missing: Callable[[], Sequence[Run]],
    do: Callable[[Run], Found],
    jobs: int,
    minutes: float,
) -> Iterator[Found]:
    """What each missing run found, as they end; `do` and its results travel between processes.

    A run that has ended counts as made once what it found was taken here and `missing` knows it.
    None begins after `minutes`. With one job all is done in this process.

    Raises:
        Exception: the first that a run raised, once those that had begun have ended.
    """
    end = time.monotonic() + 60 * minutes
    if jobs == 1:
        while (runs := missing()) and time.monotonic() < end:
            yield do(runs[0])
        return
    going: dict[Future[Found], Run] = {}
    failed: BaseException | None = None
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as processes:
        while True:
            waiting = [run for run in missing() if run not in going.values()]
            while waiting and len(going) < jobs and time.monotonic() < end and not failed:
                run = waiting.pop(0)
                going[processes.submit(do, run)] = run
            if not going:
                break
            for future in wait(going, return_when=FIRST_COMPLETED).done:
                del going[future]
                if error := future.exception():
                    failed = failed or error
                else:
                    yield future.result()
    if failed:
        raise failed
