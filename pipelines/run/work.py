"""Work: a suite's steps as batch jobs, and which of their shares are missing.

Owns the number of shares that a step is cut into. `batch` decides how a job runs a share.
"""

from dataclasses import dataclass

from ...workers.share import TaskShare
from ..steps.table import step_named, steps_of
from ..suite.outputs import Outputs
from .records import records_of

MAX_SHARES = 1000
"""Most shares of a step: batch queues limit the tasks of a job."""


@dataclass(frozen=True)
class Work:
    """One step of a suite, as a batch job.

    Attributes:
        step: name of the step, as `--only` takes it.
        n_shares: number of tasks of the job.
        needs: steps whose jobs come before.
        gpus: GPUs of each task.
    """

    step: str
    n_shares: int
    needs: tuple[str, ...]
    gpus: int


def work_of(outputs: Outputs, shares: int | None = None, gpus: int = 1) -> list[Work]:
    """The steps in their order.

    Args:
        outputs: the suite's outputs.
        shares: most tasks of each step; by default as many as have work.
        gpus: GPUs of a task, for steps that a GPU makes faster.
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
    """Step -> shares to submit: for each incomplete step, the shares that are neither done nor
    running.

    Share 0 is submitted until its step is complete, because it also does the work that only one
    process may do.
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
