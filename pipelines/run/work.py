"""Work: a suite's steps as batch jobs take them, and which of their shares are missing.

Owns how many shares a step is cut into. How a job runs a share is `batch`'s business.
"""

from dataclasses import dataclass

from ...workers.share import TaskShare
from ..steps.table import step_named, steps_of
from ..suite.outputs import Outputs
from .records import records_of

MAX_SHARES = 1000
"""No step is cut into more tasks than queues like to take."""


@dataclass(frozen=True)
class Work:
    """One step of a suite, as a batch job.

    Attributes:
        step: name for `--only`.
        n_shares: tasks of the job.
        needs: steps whose jobs come before.
        gpus: of each task.
    """

    step: str
    n_shares: int
    needs: tuple[str, ...]
    gpus: int


def work_of(outputs: Outputs, shares: int | None = None, gpus: int = 1) -> list[Work]:
    """The steps in their order.

    Args:
        shares: tasks of every step that can be shared; by default as many as have work.
        gpus: of a task of a step that a GPU makes faster.
    """
    return [
        Work(
            step.name,
            min(step.pieces(outputs), shares or MAX_SHARES, MAX_SHARES),
            step.needs,
            gpus if step.on_gpu else 0,
        )
        for step in steps_of(outputs.suite)
    ]


def missing_shares(outputs: Outputs, work: list[Work]) -> dict[str, list[int]]:
    """Step -> shares to submit: none of a step that is complete, else those that have not ended
    well.

    The first share is sent until its step is complete: it also does what only one may do.
    """
    missing = {}
    for one in work:
        step = step_named(one.step)
        if step.state(outputs).complete:
            continue
        records = {record.share: record.state for record in records_of(outputs.out, one.step)}
        wanted = range(one.n_shares)
        shares = [str(TaskShare(index, one.n_shares)) for index in wanted]
        missing[one.step] = [
            index
            for index, share in zip(wanted, shares, strict=True)
            if index == 0 or records.get(share) not in ("done", "running")
        ]
    return missing
