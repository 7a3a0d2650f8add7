"""Shards without a commit: named, left alone while a writer may be at work, then removed."""

import os
import time
from pathlib import Path

import fsspec
import pytest

from scopeworks.store import ActivationStore
from scopeworks.store.place.remote import RemoteObjects
from scopeworks.store.tools.verify import verify_store
from scopeworks.tests.store.making import make_store


def age(url: str, seconds: float) -> None:
    """Makes every file so old."""
    then = time.time() - seconds
    for path in Path(url).rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))


def contents(url: str) -> set[str]:
    return {str(path) for path in Path(url).rglob("*") if path.is_file()}


@pytest.fixture
def orphaned(fresh) -> str:
    """A store whose bucket 1 has no commit, and that nobody has touched for two hours."""
    Path(fresh.url, "commits/00000001/zarr.json").unlink()
    age(fresh.url, 7200)
    return fresh.url


def test_old_shards_without_a_commit_are_removed_and_no_others(orphaned):
    before = contents(orphaned)
    gone = {
        f"{orphaned}/{path}/c/{shard}{end}"
        for path, end in [
            ("sites/resid_post.1", "/0"),
            ("sites/mlp_out.0", "/0"),
            ("labels/token", ""),
            ("labels/sequence", ""),
            ("labels/position", ""),
        ]
        for shard in (3, 4, 5)
    }
    report = verify_store(orphaned, clean=True)
    assert (report.removed, report.problems, report.notes) == ({1: 15}, [], [])
    assert before - contents(orphaned) == gone
    assert ActivationStore.open(orphaned).rows == 700 - 192


def test_without_orphans_nothing_is_asked_for_and_nothing_removed(fresh):
    before = contents(fresh.url)
    assert verify_store(fresh.url, clean=True).removed == {}
    assert contents(fresh.url) == before


@pytest.mark.parametrize(
    "young", ["zarr.json", "commits/00000002/zarr.json", "labels/token/c/.7.0a.partial"]
)
def test_while_any_object_is_young_nothing_is_removed(orphaned, young):
    Path(orphaned, young).touch()
    before = contents(orphaned)
    with pytest.raises(ValueError, match=r"no object younger than an hour .*; nothing was removed"):
        verify_store(orphaned, clean=True)
    assert contents(orphaned) == before


def test_a_clock_that_is_behind_removes_nothing(orphaned):
    age(orphaned, -7200)
    with pytest.raises(ValueError, match=r"got one of 0 minutes"):
        verify_store(orphaned, clean=True)


def remote_orphan(name: str) -> str:
    """A store in memory, just written, whose bucket 1 has no commit."""
    made = make_store(f"memory://{name}")
    fsspec.filesystem("memory").rm(f"/{name}/commits/00000001/zarr.json")
    return made.url


def test_a_remote_store_goes_by_the_age_of_its_objects(monkeypatch):
    url = remote_orphan("orphans-old")
    with pytest.raises(ValueError, match=r"got one of 0 minutes; nothing was removed"):
        verify_store(url, clean=True)
    now = time.time()
    monkeypatch.setattr("scopeworks.store.tools.orphans.time.time", lambda: now + 7200)
    assert verify_store(url, clean=True).removed == {1: 15}
    assert not fsspec.filesystem("memory").exists("/orphans-old/labels/token/c/3")


def test_where_ages_cannot_be_known_nothing_is_removed(monkeypatch):
    def unknown(self, path):
        raise NotImplementedError

    url = remote_orphan("orphans-ageless")
    monkeypatch.setattr(type(RemoteObjects(url, None)._fs), "modified", unknown)
    with pytest.raises(ValueError, match=r"must be known .*NotImplementedError; nothing was"):
        verify_store(url, clean=True)
    assert fsspec.filesystem("memory").exists("/orphans-ageless/labels/token/c/3")
