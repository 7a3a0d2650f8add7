"""The batch that nobody asked for: from free memory, by estimate and by trial."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from scopeworks.harvest.model.families import GEMMA2
from scopeworks.harvest.model.loading import load_model
from scopeworks.harvest.model.sites import expand_sites
from scopeworks.harvest.rows.batch_size import (
    sequences_that_fit,
    sequences_that_run,
    share_of_memory,
)
from scopeworks.harvest.rows.bucket_job import BucketHarvester
from scopeworks.harvest.rows.plan import Mask

GIB = 2**30


@pytest.fixture(scope="module")
def job(model_dir) -> BucketHarvester:
    """All sites of the small model over sequences of 32 tokens."""
    return BucketHarvester(
        model=load_model(model_dir, dtype="float32", device="cpu"),
        sequences=np.full((9, 32), 7, dtype=np.uint32),
        mask=Mask((0,)),
        sites=tuple(expand_sites(["*.*"], 4)),
        batch_sequences=0,
        stored=torch.bfloat16,
    )


def test_batch_is_as_many_tokens_as_help_where_memory_is_plenty(job):
    assert sequences_that_fit(job, 100 * GIB, 100 * GIB) == 4096 // 32
    elsewhere = replace(job, model=replace(job.model, device=torch.device("cuda")))
    assert sequences_that_fit(elsewhere, 100 * GIB, 100 * GIB) == 16384 // 32


def test_batch_shrinks_with_the_free_memory_and_with_that_for_rows_down_to_one(job):
    one = GEMMA2.sequence_bytes(job.model.config, 32, "float32", "eager")
    assert sequences_that_fit(job, 10 * one, 100 * GIB) == 8  # four fifths of what is free
    assert job.row_bytes == 2 * (4 * (64 + 3 * 32))
    assert sequences_that_fit(job, 100 * GIB, 2 * 5 * 32 * job.row_bytes) == 5
    assert sequences_that_fit(job, 0, 0) == 1


def test_batch_is_halved_as_often_as_the_device_runs_out_of_memory(job, monkeypatch):
    tried = []

    def forward(_job, block):
        tried.append(len(block.tokens))
        if len(block.tokens) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(BucketHarvester, "forward", forward)
    assert sequences_that_run(job, 24) == 3
    assert tried == [24, 12, 6, 3]


def test_batch_beyond_the_devices_memory_is_a_setting_to_mend(job, monkeypatch):
    def forward(_job, _block, _room):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(BucketHarvester, "forward", forward)
    with pytest.raises(ValueError, match="batch_sequences must fit the memory of cpu, got 7"):
        replace(job, batch_sequences=7).rows(None)  # pyright: ignore[reportArgumentType]


def test_local_workers_share_what_their_models_leave():
    assert share_of_memory(1000, 100, 0) == 1000
    assert share_of_memory(1000, 100, 2) == 400
    assert share_of_memory(100, 100, 2) == 0
