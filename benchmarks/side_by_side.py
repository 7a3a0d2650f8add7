"""The runs of a campaign in several processes at once.

Owns which run begins when a process is free. Which runs are missing may depend on results so far,
so the list is made again each time. Needs only the standard library.
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
    """Yields the result of each missing run when it ends; `do` and its results are pickled.

    A run counts as made when the caller has taken its result, so that `missing` no longer lists it.
    No run begins after `minutes`. With one job all runs are made in this process.

    Raises:
        Exception: the first error of a run, after the other running ones have ended.
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
