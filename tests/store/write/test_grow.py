"""A store that grows: same bytes in the end, valid at every moment, smaller sizes refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from scopeworks.store import ActivationStore, StoreWriter
from scopeworks.store.format.root import grow, read_root
from scopeworks.store.place.local import LocalFiles
from scopeworks.store.tools.copy import copy_store
from scopeworks.store.tools.describe import describe
from scopeworks.store.tools.verify import verify_store
from scopeworks.tests.store.making import SITES, fill, numbers, rows_of, spec_of

LARGE = 1100
SMALL = 576
ROWS = rows_of(spec_of(rows=LARGE))


def contents(url: str | Path) -> dict[str, bytes]:
    return {str(p.relative_to(url)): p.read_bytes() for p in Path(url).rglob("*") if p.is_file()}


def write(url: Path, rows: int, **changes) -> None:
    """What a harvest does: the buckets that are missing."""
    with StoreWriter.open(url, spec_of(rows=rows, **changes)) as writer:
        for bucket in sorted(set(range(writer.n_buckets)) - writer.committed):
            fill(writer, ROWS, bucket)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Callable[[int], Path]:
    """A complete store of so many rows, to be copied."""
    folder = tmp_path_factory.mktemp("small")

    def made(rows: int) -> Path:
        if not (folder / str(rows)).exists():
            write(folder / str(rows), rows)
        return folder / str(rows)

    return made


def check_valid(url: Path, at_least: int = 0) -> ActivationStore:
    """Every row that a reader sees is the one its labels name, once."""
    store = ActivationStore.open(url)
    assert store.rows >= at_least
    if store.rows:
        number = numbers(store, 0, store.rows)
        assert len(number.unique()) == store.rows
        for site in SITES:
            expected = ROWS[site].bfloat16().float()[number]
            assert torch.equal(store.read(site, 0, store.rows), expected)
    return store


def test_a_grown_store_ends_as_one_begun_at_that_size(small, tmp_path):
    shutil.copytree(small(SMALL), tmp_path / "grown")
    write(tmp_path / "grown", LARGE)
    write(tmp_path / "whole", LARGE)
    grown, whole = contents(tmp_path / "grown"), contents(tmp_path / "whole")
    root = json.loads(grown.pop("zarr.json"))["attributes"]["scopeworks"]
    assert root.pop("grown_from") == [SMALL]
    fresh = json.loads(whole.pop("zarr.json"))["attributes"]["scopeworks"]
    assert root.pop("crc32c") != fresh.pop("crc32c")
    assert root == fresh
    assert grown == whole
    assert ActivationStore.open(tmp_path / "grown").complete
    assert verify_store(tmp_path / "grown").problems == []


def test_buckets_are_not_written_again(small, tmp_path):
    shutil.copytree(small(SMALL), tmp_path / "a")
    before = {p: p.stat() for p in (tmp_path / "a").rglob("c/**/*") if p.is_file()}
    assert len(before) == 5 * 9
    write(tmp_path / "a", LARGE)
    assert all(path.stat().st_ino == status.st_ino for path, status in before.items())


def test_a_store_that_has_grown_shows_what_was_there(small, tmp_path):
    shutil.copytree(small(SMALL), tmp_path / "a")
    with StoreWriter.open(tmp_path / "a", spec_of(rows=LARGE)) as writer:
        assert writer.committed == {0, 1, 2}
        assert (writer.n_buckets, writer.spec.rows) == (6, LARGE)
    store = check_valid(tmp_path / "a", SMALL)
    assert (store.rows, store.complete) == (SMALL, False)
    assert "576 of 1,100 rows (3 of 6 buckets)" in "\n".join(describe(store))


@pytest.mark.parametrize("buckets", [(), (0,), (0, 1, 2, 3)])
def test_a_short_last_bucket_is_the_end_of_the_store(tmp_path, buckets):
    with StoreWriter.open(tmp_path / "a", spec_of(rows=700)) as writer:
        for bucket in buckets:
            fill(writer, ROWS, bucket)
    before = contents(tmp_path / "a")
    said = r"rows of store .* must stay 700, got 1100: its last bucket holds 124 of 192 rows, .*"
    with pytest.raises(ValueError, match=said + "choose another place"):
        StoreWriter.open(tmp_path / "a", spec_of(rows=LARGE))
    assert contents(tmp_path / "a") == before


class Killed(BaseException):
    """Stands for SIGKILL: no code of ours catches it to tidy up."""


def test_a_reader_at_every_step_and_a_kill_at_every_step_find_a_valid_store(
    small, tmp_path, monkeypatch
):
    replace, write_object, done = LocalFiles.replace, LocalFiles.write, 0
    kill_at = None

    def step(self: LocalFiles) -> None:
        nonlocal done
        done += 1
        if kill_at is None:
            check_valid(self.root, 576)
            assert verify_store(self.root).problems == []
        if done == kill_at:
            raise Killed

    monkeypatch.setattr(LocalFiles, "replace", lambda self, *a: (replace(self, *a), step(self)))
    monkeypatch.setattr(LocalFiles, "write", lambda self, *a: (write_object(self, *a), step(self)))
    shutil.copytree(small(SMALL), tmp_path / "whole")
    write(tmp_path / "whole", LARGE)
    expected, steps = contents(tmp_path / "whole"), done
    assert steps > 20
    for kill_at in [*range(1, 8), *range(8, steps, 9)]:
        url, done = tmp_path / str(kill_at), 0
        shutil.copytree(small(SMALL), url)
        with pytest.raises(Killed):
            write(url, LARGE)
        check_valid(url, 576)
        assert verify_store(url).problems == []
        done = -1000
        write(url, LARGE)
        assert contents(url) == expected


def test_growing_twice_in_a_row(small, tmp_path):
    shutil.copytree(small(SMALL), tmp_path / "a")
    StoreWriter.open(tmp_path / "a", spec_of(rows=960)).close()
    write(tmp_path / "a", LARGE)
    assert read_root(LocalFiles(tmp_path / "a")).grown_from == (SMALL, 960)
    assert check_valid(tmp_path / "a", LARGE).complete


def test_two_processes_may_grow_a_store_to_the_same_size(small, tmp_path):
    shutil.copytree(small(SMALL), tmp_path / "a")
    location = LocalFiles(tmp_path / "a")
    late = read_root(location)  # a process that is slow from here on
    write(tmp_path / "a", LARGE)
    before = contents(tmp_path / "a")
    grow(location, late, LARGE)
    assert contents(tmp_path / "a") == before


def test_fewer_rows_are_refused_and_nothing_is_touched(small, tmp_path):
    shutil.copytree(small(700), tmp_path / "a")
    before = contents(tmp_path / "a")
    with pytest.raises(
        ValueError, match=r"only rows may grow\), but these differ: rows: 700 → 699;"
    ):
        StoreWriter.open(tmp_path / "a", spec_of(rows=699))
    with pytest.raises(ValueError, match=r"only rows may grow\), but these differ: seed: 5 → 6;"):
        StoreWriter.open(tmp_path / "a", spec_of(rows=800, seed=6))
    assert contents(tmp_path / "a") == before


def test_the_spec_of_a_begun_store_can_be_asked_for(small, tmp_path):
    assert StoreWriter.begun(small(700)) == spec_of(rows=700)
    assert StoreWriter.begun(tmp_path / "nothing") is None
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(ValueError, match="must be empty or an activation store"):
        StoreWriter.begun(tmp_path)


def test_a_writer_of_the_smaller_size_goes_on_beside_the_growth(tmp_path):
    with StoreWriter.open(tmp_path / "a", spec_of(rows=SMALL)) as late:
        with StoreWriter.open(tmp_path / "a", spec_of(rows=LARGE)) as writer:
            fill(writer, ROWS, 4)
            fill(late, ROWS, 2)
        assert late.committed == {2}
    write(tmp_path / "a", LARGE)
    write(tmp_path / "whole", LARGE)
    grown, whole = contents(tmp_path / "a"), contents(tmp_path / "whole")
    assert grown.pop("zarr.json") != whole.pop("zarr.json")
    assert grown == whole


def test_plain_zarr_sees_the_new_shape(small, tmp_path):
    import zarr

    shutil.copytree(small(SMALL), tmp_path / "a")
    write(tmp_path / "a", LARGE)
    group = zarr.open_group(tmp_path / "a", mode="r")
    assert group["sites/mlp_out.0"].shape == (LARGE, 7)  # type: ignore[union-attr]
    assert group["labels/token"].shape == (LARGE,)  # type: ignore[union-attr]


def test_a_copy_follows_a_source_that_grows(small, tmp_path):
    shutil.copytree(small(SMALL), tmp_path / "a")
    assert copy_store(tmp_path / "a", tmp_path / "b") == SMALL
    StoreWriter.open(tmp_path / "a", spec_of(rows=LARGE)).close()
    assert copy_store(tmp_path / "a", tmp_path / "b") == 0
    assert check_valid(tmp_path / "b").rows == SMALL
    write(tmp_path / "a", LARGE)
    assert copy_store(tmp_path / "a", tmp_path / "b") == LARGE - SMALL
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
