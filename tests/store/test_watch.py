"""A reader beside a store that grows: the old rows or an error, never other rows."""

from contextlib import suppress
from pathlib import Path

import pytest
import torch

from scopeworks.store import ActivationStore, DamagedStoreError, StoreWriter
from scopeworks.store.location import LocalFiles
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
