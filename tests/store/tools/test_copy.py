"""Copies: bit-identical, resumable, to other codecs and chunkings, on Dask."""

from pathlib import Path

import pytest
import torch

from scopeworks.store import ActivationStore, StoreWriter
from scopeworks.store.tools.copy import copy_store
from scopeworks.store.tools.verify import verify_store
from scopeworks.tests.store.making import fill, rows_of, spec_of


def contents(url: str | Path) -> dict[str, bytes]:
    return {str(p.relative_to(url)): p.read_bytes() for p in Path(url).rglob("*") if p.is_file()}


def test_a_copy_of_the_same_spec_is_bit_identical(made, tmp_path):
    assert copy_store(made.url, tmp_path / "b") == 700
    assert contents(tmp_path / "b") == contents(made.url)
    assert copy_store(made.url, tmp_path / "b") == 0


def test_a_copy_continues_after_the_buckets_that_are_there(made, tmp_path):
    with StoreWriter.open(tmp_path / "b", made.spec) as writer:
        fill(writer, made.rows, 1)
    assert copy_store(made.url, tmp_path / "b") == 700 - 192
    assert contents(tmp_path / "b") == contents(made.url)


@pytest.mark.parametrize("changes", [{"codec": "fast"}, {"chunk_rows": 64, "shard_rows": 192}])
def test_another_codec_or_chunking_holds_the_same_rows(made, tmp_path, changes):
    copy_store(made.url, tmp_path / "b", **changes)
    old, new = ActivationStore.open(made.url), ActivationStore.open(tmp_path / "b")
    for name, value in changes.items():
        assert getattr(new.spec, name) == value
    for site in old.sites:
        assert torch.equal(old.read(site, 0, 700), new.read(site, 0, 700))
    assert (old.labels(0, 700).sequence == new.labels(0, 700).sequence).all()
    assert verify_store(tmp_path / "b").problems == []


def test_dropped_rows_stay_dropped(tmp_path):
    spec = spec_of()
    rows = rows_of(spec)
    rows["mlp_out.0"][[3, 300]] = float("inf")
    with StoreWriter.open(tmp_path / "a", spec, drop_nonfinite=True) as writer:
        for bucket in range(writer.n_buckets):
            fill(writer, rows, bucket)
    copy_store(tmp_path / "a", tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_dask_workers_copy_the_same_bytes(made, tmp_path):
    copy_store(made.url, tmp_path / "b", workers=1)
    assert contents(tmp_path / "b") == contents(made.url)
