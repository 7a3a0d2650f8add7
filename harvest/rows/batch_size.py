"""Batch size: how many sequences go through the model at once, if the settings leave it open.

Owns the choice by the memory of a forward pass, which the model's family estimates, and the trial
on a GPU, where the estimate alone is not trusted.
"""

import numpy as np
import torch

from ..model.families import family_of
from .bucket_job import BucketHarvester
from .plan import Block

_MOST_TOKENS = {"cpu": 4096}
_MOST_TOKENS_ELSEWHERE = 16384
"""Most tokens in a batch. More make no forward pass faster: a CPU's caches are full, a GPU's units
are busy."""

_SHARE = 0.8
"""Share of the free memory that the estimate of a forward pass may take."""


def sequences_that_fit(job: BucketHarvester, free_bytes: int, rows_bytes: int) -> int:
    """Sequences in one batch by estimate, at least one.

    Args:
        job: what is harvested; its own `batch_sequences` does not count.
        free_bytes: free where the model computes.
        rows_bytes: for the rows of two batches on their way to the store.
    """
    context, model = job.sequences.shape[1], job.model
    most = _MOST_TOKENS.get(model.device.type, _MOST_TOKENS_ELSEWHERE) // context
    estimate = family_of(model.config).sequence_bytes
    one = estimate(model.config, context, model.dtype, model.attention)
    forward = int(_SHARE * free_bytes) // one
    rows = rows_bytes // (2 * job.row_bytes * context)
    return max(1, min(most, forward, rows))


def share_of_memory(free_bytes: int, model_bytes: int, n_workers: int) -> int:
    """Bytes for each of `n_workers` processes that will load a model of their own."""
    return max(0, free_bytes - n_workers * model_bytes) // max(1, n_workers)


def sequences_that_run(job: BucketHarvester, sequences: int) -> int:
    """`sequences`, halved as often as the device runs out of memory with them; at least one."""
    while sequences > 1 and not _runs(job, sequences):
        sequences //= 2
    return sequences


def _runs(job: BucketHarvester, sequences: int) -> bool:
    """Whether the device has the memory for a batch of so many sequences."""
    context = job.sequences.shape[1]
    tokens = np.zeros((sequences, context), dtype=np.uint32)
    every = np.arange(sequences * context)
    try:
        job.forward(Block(tokens, every // context, every % context, every))
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return False
    return True
