"""On Dask: groups of SAEs spread over Dask workers.

Owns the task that a worker runs, and the wait for all tasks. A group is a task; a worker keeps
model and text between tasks. If a worker dies, another measures its group again, with the same
figures.
"""

import json
import time
from functools import lru_cache
from threading import Lock
from typing import Any

import torch

from ...console import Progress, progress
from ...harvest.settings import from_driver, to_worker
from ...settings import differences
from ...workers.cluster import RETRIES, Watch, check_done, connect
from ..settings import EvaluateSettings
from .groups import GroupedSAE, groups_of
from .job import EvaluationJob
from .saes import SAEs

_POLL_S = 0.1
_ONE_AT_A_TIME = Lock()

Figures = dict[tuple[int, ...], dict[str, Any]]
Seconds = dict[tuple[int, ...], float]


def measured_on_dask(
    settings: EvaluateSettings,
    items: list[GroupedSAE],
    facts: dict[str, Any],
    most_bytes: int | None,
) -> tuple[Figures, Seconds]:
    """The figures of each group and the seconds it took, measured on the cluster of
    `settings.dask`.

    Args:
        settings: with dtype and batch as the command resolved them.
        items: the SAEs; they are cut into one group for each worker.
        facts: of model and text; every worker's must be the same.
        most_bytes: limit of the weights in a group; None if the workers' memory is not known.

    Raises:
        OSError: the scheduler does not answer, or a group failed on every worker that tried it.
        ValueError: `settings.dask` names no cluster, or a worker has another model or other tokens.
    """
    figures: Figures = {}
    seconds: Seconds = {}
    with (
        connect(settings.dask or "") as client,
        progress("evaluate", len(items), "SAEs") as bar,
    ):
        sent = to_worker(settings), json.dumps(facts), torch.get_num_threads()
        waiting = {
            group: client.submit(_measure, *sent, group, pure=False, retries=RETRIES)
            for group in groups_of(items, _n_workers(client), most_bytes)
        }
        watch = Watch(client)
        while waiting:
            watch.processing()
            for group in [group for group, future in waiting.items() if future.done()]:
                future = waiting.pop(group)
                check_done(future, f"the group of SAE {items[group[0]].number + 1}")
                figures[group], seconds[group] = future.result()
                bar.advance(len(group))
            time.sleep(_POLL_S if waiting else 0)
    return figures, seconds


def _n_workers(client: Any) -> int:
    """The number of workers now; 1 if none has come yet."""
    return max(1, len(client.nthreads()))


def _measure(
    sent: str, facts: str, n_threads: int, numbers: tuple[int, ...]
) -> tuple[dict[str, Any], float]:
    """The task: measures a group on this worker."""
    started = time.monotonic()
    # With another number of threads, sums are over other parts and round differently.
    torch.set_num_threads(n_threads)
    with _ONE_AT_A_TIME:
        found = _job_here(sent, facts).measured(numbers, Progress("", None, "", _show_nothing))
    return found, time.monotonic() - started


@lru_cache(maxsize=1)
def _job_here(sent: str, facts: str) -> EvaluationJob:
    """This worker's model and text, loaded once and checked against the command's."""
    settings = from_driver(EvaluateSettings, sent)
    job, wanted = EvaluationJob.load(settings, SAEs(settings)), json.loads(facts)
    own = job.facts()
    # The command sent absolute paths, so names may differ; fingerprints decide.
    own["model"]["name"] = wanted["model"]["name"]
    own["tokens"]["url"] = wanted["tokens"]["url"]
    if changed := differences(wanted, own):
        raise ValueError(
            f"every worker must have the same model and tokens, one has {'; '.join(changed)}; "
            "put them where all workers reach them"
        )
    return job


def _show_nothing(*_state: Any) -> None:
    """Shows nothing: the command shows the progress of workers."""
