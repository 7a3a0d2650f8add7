"""What stands in the place of an object on a disk: regular files inside the store, nothing else."""

import os
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from scopeworks.store import ActivationStore, StoreWriter
from scopeworks.store.format.commits import commit_key
from scopeworks.store.place.local import LocalFiles, UnsafeObjectError
from scopeworks.store.tools.verify import verify_store

SHARD = "sites/mlp_out.0/c/4/0"
KEYS = ["zarr.json", commit_key(1), "sites/zarr.json", SHARD]


@pytest.fixture(autouse=True)
def never_hanging() -> Iterator[None]:
    """An error where the code under test waits for a FIFO's writer."""

    def late(*_: object) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def put(path: Path, kind: str) -> None:
    """Something else in the place of a file."""
    path.unlink(missing_ok=True)
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's path may have 107 characters
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
        os.chdir(here)
    else:
        path.symlink_to({"device": "/dev/zero", "link that leads to": "/etc/passwd"}[kind])


def read_all(url: str) -> None:
    store = ActivationStore.open(url)
    store.read("mlp_out.0", 0, store.rows)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("kind", ["FIFO", "folder", "socket", "device", "link that leads to"])
def test_only_regular_files_of_the_store_are_read(fresh, kind, key):
    put(Path(fresh.url) / key, kind)
    if kind == "folder" and key == commit_key(1):  # an empty folder is nothing
        assert ActivationStore.open(fresh.url).rows == 700 - 192
        return
    message = rf"^{fresh.url}/{key} must be .*, got a {kind}"
    if key != "sites/zarr.json":  # only plain Zarr needs that one
        with pytest.raises(OSError, match=message):
            read_all(fresh.url)
    if key == "zarr.json":
        with pytest.raises(UnsafeObjectError, match=message):
            verify_store(fresh.url)
    else:
        report = verify_store(fresh.url)
        assert any(f"{key} must be" in problem for problem in report.problems)
        assert report.damaged == ({1} if key in (commit_key(1), SHARD) else set())


def test_a_link_inside_the_store_is_followed(fresh):
    path = Path(fresh.url) / SHARD
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")
    read_all(fresh.url)
    assert not any("must be" in problem for problem in verify_store(fresh.url).problems)


def test_the_store_itself_may_be_behind_a_link(fresh, tmp_path):
    (tmp_path / "link").symlink_to(fresh.url)
    read_all(str(tmp_path / "link"))
    assert verify_store(tmp_path / "link").problems == []


@pytest.mark.parametrize("key", ["sites/mlp_out.0", "commits"])
def test_a_folder_that_leads_out_is_refused(fresh, tmp_path, key):
    folder = Path(fresh.url) / key
    shutil.move(folder, tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeObjectError, match=rf"{key}.* must be inside {fresh.url}"):
        read_all(fresh.url)
    with pytest.raises(UnsafeObjectError, match="leads to"):
        LocalFiles(Path(fresh.url)).write(f"{key}/new", [b"x"])
    with pytest.raises(UnsafeObjectError, match="leads to"):
        LocalFiles(Path(fresh.url)).remove(f"{key}/zarr.json")
    assert not (tmp_path / "elsewhere" / "new").exists()


def test_keys_do_not_climb_out(tmp_path):
    (tmp_path / "secret").write_text("x")
    (tmp_path / "store").mkdir()
    place = LocalFiles(tmp_path / "store")
    for attempt in (
        lambda: place.read("../secret"),
        lambda: place.size("../secret"),
        lambda: place.read_into("../secret", 0, np.empty(1, np.uint8)),
        lambda: place.remove("../secret"),
        lambda: place.replace("../secret", b"y"),
        lambda: place.children(".."),
    ):
        with pytest.raises(UnsafeObjectError, match="must be inside"):
            attempt()
    assert (tmp_path / "secret").read_text() == "x"


def test_listing_follows_no_link_and_ends(tmp_path):
    deep = tmp_path / "store" / "a"
    deep.mkdir(parents=True)
    (tmp_path / "store" / "loop").symlink_to(".")
    (tmp_path / "store" / "empty" / "er").mkdir(parents=True)
    (deep / "out").symlink_to("/")
    assert LocalFiles(tmp_path / "store").children() == ["a", "loop"]


def test_a_file_on_the_way_to_an_object_means_there_is_none(fresh):
    shutil.rmtree(Path(fresh.url) / "sites/mlp_out.0/c/4")
    (Path(fresh.url) / "sites/mlp_out.0/c/4").write_text("x")
    with pytest.raises(OSError, match=r"shard 4 .*: the object is missing"):
        read_all(fresh.url)


def test_a_writer_does_not_wait_for_a_fifo(fresh):
    put(Path(fresh.url) / "zarr.json", "FIFO")
    with pytest.raises(UnsafeObjectError, match="got a FIFO"):
        StoreWriter.open(fresh.url, fresh.spec)
