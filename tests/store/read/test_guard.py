"""A reader beside a store that grows: the old rows or an error, never other rows."""

from contextlib import suppress
from pathlib import Path

import pytest
import torch

from scopeworks.store import ActivationStore, DamagedStoreError, StoreWriter
from scopeworks.store.place.local import LocalFiles
from scopeworks.store.place.place import Place
from scopeworks.store.tools.copy import Copy
from scopeworks.store.tools.verify import verify
from scopeworks.tests.store.making import BUCKET, ROWS, fill, make_store, rows_of, spec_of

LARGE, LAST, SITE = 1100, 3, "mlp_out.0"


def regrow(url: Path, codec: str) -> None:
    """Makes a store longer and writes its short last bucket anew."""
    with StoreWriter.open(url, spec_of(rows=LARGE, codec=codec)) as writer:
        fill(writer, rows_of(spec_of(rows=LARGE)), LAST)


@pytest.mark.parametrize("codec", ["exact", "fast"])
@pytest.mark.parametrize("cached", [False, True])
def test_a_bucket_written_anew_is_refused_and_the_others_are_read(tmp_path, codec, cached):
    made = make_store(tmp_path / "a", codec=codec)
    cache = {"cache_dir": tmp_path / "cache"} if cached else {}
    store = ActivationStore.open(made.url, **cache)
    before = store.read(SITE, 0, ROWS)
    regrow(tmp_path / "a", codec)
    assert torch.equal(store.read(SITE, 0, LAST * BUCKET), before[: LAST * BUCKET])
    if cached:  # the old rows are there
        assert torch.equal(store.read(SITE, LAST * BUCKET, ROWS), before[LAST * BUCKET :])
        store = ActivationStore.open(made.url)
    else:
        with pytest.raises(DamagedStoreError, match=r"bucket 3 of .* last bucket is written anew"):
            store.read(SITE, LAST * BUCKET, ROWS)
        with (
            store.stream(SITE, 100) as stream,
            pytest.raises(DamagedStoreError, match="open the store again"),
        ):
            for _ in range(8):
                next(stream)
    assert ActivationStore.open(made.url).rows == 4 * BUCKET


@pytest.mark.parametrize("codec", ["exact", "fast"])
def test_at_every_step_of_the_writer_a_reader_gets_the_old_rows_or_an_error(
    tmp_path, monkeypatch, codec
):
    made = make_store(tmp_path / "a", codec=codec)
    store = ActivationStore.open(made.url)
    before = store.read(SITE, 0, ROWS)
    labels = store.labels(0, ROWS)
    seen = {"old": 0, "refused": 0}

    def look() -> None:
        for first in range(LAST * BUCKET, ROWS, 32):
            last = min(first + 32, ROWS)
            with suppress(DamagedStoreError):
                found = ActivationStore.read(store, SITE, first, last)
                assert torch.equal(found, before[first:last])
                assert (store.labels(first, last).sequence == labels.sequence[first:last]).all()
                seen["old"] += 1
                continue
            seen["refused"] += 1

    for name in ("write", "replace", "remove"):
        plain = getattr(LocalFiles, name)

        def stepped(self, *arguments, plain=plain):
            plain(self, *arguments)
            look()

        monkeypatch.setattr(LocalFiles, name, stepped)
    regrow(tmp_path / "a", codec)
    assert min(seen.values()) > 10


def test_full_buckets_cost_no_further_reads(tmp_path, monkeypatch):
    made = make_store(tmp_path / "a", rows=2 * BUCKET)
    store = ActivationStore.open(made.url)
    monkeypatch.setattr(LocalFiles, "read", None)
    assert store.read(SITE, 0, store.rows).shape == (2 * BUCKET, 7)


@pytest.mark.parametrize("codec", ["exact", "fast"])
def test_rows_that_change_just_before_they_are_read_are_refused(tmp_path, monkeypatch, codec):
    made = make_store(tmp_path / "a", codec=codec)
    store = ActivationStore.open(made.url)
    store.read(SITE, LAST * BUCKET, LAST * BUCKET + 10)  # knows the index, and has one read to do
    plain, todo = LocalFiles.read_into, [tmp_path / "a"]

    def late(self, key, start, out):
        if todo:
            regrow(todo.pop(), codec)
        return plain(self, key, start, out)

    monkeypatch.setattr(LocalFiles, "read_into", late)
    with pytest.raises(DamagedStoreError, match="is written anew"):
        store.read(SITE, LAST * BUCKET, LAST * BUCKET + 10)


def test_a_shard_that_goes_with_its_commit_is_no_damage(tmp_path):
    made = make_store(tmp_path / "a")
    store = ActivationStore.open(made.url)
    (tmp_path / "a" / "commits" / f"{LAST:08d}" / "zarr.json").unlink()
    (tmp_path / "a" / "sites" / SITE / "c" / "9" / "0").unlink()
    with pytest.raises(DamagedStoreError, match="is written anew"):
        store.read(SITE, LAST * BUCKET, ROWS)


def test_buckets_short_only_of_dropped_rows_are_full(tmp_path, monkeypatch):
    spec = spec_of(rows=2 * BUCKET)
    rows = rows_of(spec)
    rows[SITE][5] = float("nan")
    with StoreWriter.open(tmp_path, spec, drop_nonfinite=True) as writer:
        for bucket in (0, 1):
            fill(writer, rows, bucket)
    store = ActivationStore.open(tmp_path)
    monkeypatch.setattr(LocalFiles, "read", None)
    assert store.read(SITE, 0, store.rows).shape == (2 * BUCKET - 1, 7)


@pytest.mark.parametrize("codec", ["exact", "fast"])
def test_verify_beside_a_growing_store_calls_nothing_damaged(tmp_path, monkeypatch, codec):
    made = make_store(tmp_path / "a", codec=codec)
    plain, todo = LocalFiles.size, [tmp_path / "a"]

    def size(self, key):
        if todo:
            regrow(todo.pop(), codec)
        return plain(self, key)

    monkeypatch.setattr(LocalFiles, "size", size)
    report = verify(made.url, threads=1)
    assert report.damaged == set()
    assert [text for text in report.problems if "bucket" in text] == [
        "bucket 3 was written anew meanwhile, because the store grows; verify again"
    ]
    assert not [text for text in report.problems if "shard" in text]


def test_a_copy_beside_a_growing_store_says_so(tmp_path):
    made = make_store(tmp_path / "a")
    job = Copy(Place(made.url), Place(str(tmp_path / "b")), made.spec)
    regrow(tmp_path / "a", "exact")
    with pytest.raises(ValueError, match=r"must keep its 700 rows while it is copied, got 1100"):
        job.bucket(0)
