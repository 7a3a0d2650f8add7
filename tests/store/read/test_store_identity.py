"""A run that goes on while its store grows sees the rows that it was begun with."""

import shutil
from pathlib import Path

import pytest
import torch

from scopeworks.store import ActivationStore, StoreWriter
from scopeworks.store.format.commits import commit_key
from scopeworks.store.place.local import LocalFiles
from scopeworks.store.read.store_identity import as_begun, identity
from scopeworks.tests.store.making import fill, rows_of, spec_of

ROWS = rows_of(spec_of(rows=1100))
SITE = "resid_post.1"


def write(url: Path, rows: int, buckets: set[int] | None = None) -> ActivationStore:
    """Writes the buckets that are missing, or those of them that are named."""
    with StoreWriter.open(url, spec_of(rows=rows)) as writer:
        wanted = set(range(writer.n_buckets)) if buckets is None else buckets
        for bucket in sorted(wanted - writer.committed):
            fill(writer, ROWS, bucket)
    return ActivationStore.open(url)


def test_a_stream_continues_on_the_rows_it_was_begun_with(tmp_path):
    store = write(tmp_path / "a", 576)
    record = identity(store)
    with store.stream(SITE, batch_rows=100, seed=3) as stream:
        for _ in range(4):
            next(stream)
        state = stream.state()
        expected = [next(stream).clone() for _ in range(5)]
    grown = write(tmp_path / "a", 1100)
    assert grown.rows == 1100
    begun = as_begun(grown, record, "checkpoint 4")
    assert identity(begun) == record
    assert begun.normaliser(SITE) == store.normaliser(SITE)
    with begun.stream(SITE, batch_rows=100, seed=3, state=state) as stream:
        assert all(torch.equal(next(stream), batch) for batch in expected)


@pytest.mark.parametrize("drop", [(), ("buckets",)], ids=["buckets named", "older record"])
def test_an_unfinished_store_continues_where_the_first_buckets_are_the_same(tmp_path, drop):
    record = identity(write(tmp_path / "a", 700, {0, 1}))
    for name in drop:
        del record[name]
    begun = as_begun(write(tmp_path / "a", 700), record, "checkpoint 4")
    assert begun.rows == record["rows"] == 384


def test_a_bucket_in_between_does_not_change_the_rows(tmp_path):
    record = identity(write(tmp_path / "a", 700, {0, 2}))
    assert record["buckets"] == [[0, 0], [2, 2]]
    assert identity(as_begun(write(tmp_path / "a", 700), record, "checkpoint 4")) == record


def test_a_store_that_ends_short_goes_on_too(tmp_path):
    record = identity(write(tmp_path / "a", 700))
    assert record["buckets"] == [[0, 3]]
    assert identity(as_begun(ActivationStore.open(tmp_path / "a"), record, "x")) == record


def test_a_complete_store_costs_no_further_reads_of_its_commits(tmp_path, monkeypatch):
    store = write(tmp_path / "a", 700)
    monkeypatch.setattr(LocalFiles, "read", None)
    assert store.read(SITE, 0, store.rows).shape == (700, 24)


def test_a_bucket_that_was_taken_out_is_named(tmp_path):
    record = identity(write(tmp_path / "a", 576))
    (tmp_path / "a" / commit_key(1)).unlink()
    store = ActivationStore.open(tmp_path / "a")
    with pytest.raises(ValueError, match=r"no longer holds all .*rows: 576 → 384.*was taken out"):
        as_begun(store, record, "checkpoint 4")


def test_a_store_without_any_of_the_buckets_is_named(tmp_path):
    record = identity(write(tmp_path / "a", 576, {0}))
    store = write(tmp_path / "a", 576)
    (tmp_path / "a" / commit_key(0)).unlink()
    store = ActivationStore.open(tmp_path / "a")
    assert store.rows
    with pytest.raises(ValueError, match=r"no longer holds all .*rows: 192 → 0.*begin again in"):
        as_begun(store, record, "checkpoint 4")


def test_another_store_is_refused(tmp_path):
    record = identity(write(tmp_path / "a", 576))
    shutil.rmtree(tmp_path / "a")
    with StoreWriter.open(tmp_path / "a", spec_of(sites={SITE: 24})) as writer:
        fill(writer, {SITE: ROWS[SITE]}, 0)
    with pytest.raises(ValueError, match=r"checkpoint 4 is of another store \(.*sites.mlp_out.0"):
        as_begun(ActivationStore.open(tmp_path / "a"), record, "checkpoint 4")


@pytest.mark.parametrize(
    ("name", "value"),
    [("buckets", [[0]]), ("buckets", "x"), ("rows", -1), ("rows", 1.5), ("content", None)],
)
def test_a_record_of_wrong_types_is_one_line(made, name, value):
    store = ActivationStore.open(made.url)
    record = identity(store) | {name: value}
    with pytest.raises(ValueError, match=rf"^checkpoint 4 does not hold what it must: {name}"):
        as_begun(store, record, "checkpoint 4")
