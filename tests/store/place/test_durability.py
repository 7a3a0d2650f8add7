"""Power cuts: what is flushed to the local disk, and before what."""

import os
import resource
from pathlib import Path

import numpy as np
import pytest

from scopeworks.store import StoreWriter, TokenStore
from scopeworks.store.place import partials
from scopeworks.store.place.local import LocalFiles
from scopeworks.store.tools.verify import verify_store
from scopeworks.tests.store.making import fill, rows_of, spec_of

SPEC = spec_of(rows=192)


@pytest.fixture
def events(monkeypatch) -> list[tuple[str, str]]:
    """("fsync", path) and ("rename", new path), in order."""
    found: list[tuple[str, str]] = []
    fsync, rename, link = os.fsync, Path.replace, Path.hardlink_to

    def flushed(descriptor: int) -> None:
        found.append(("fsync", str(Path(f"/proc/self/fd/{descriptor}").readlink())))
        fsync(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        found.append(("rename", str(target)))
        return rename(self, target)

    def linked(self: Path, target: Path) -> None:  # gives the file its name as a rename does
        found.append(("rename", str(self)))
        link(self, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", renamed)
    monkeypatch.setattr(Path, "hardlink_to", linked)
    return found


def folders_of(root: Path, path: Path) -> list[str]:
    """A file's folders up to the one that holds the store."""
    return [str(folder) for folder in path.parents if folder.is_relative_to(root.parent)]


def test_shards_and_their_folders_are_on_the_disk_before_the_commit(tmp_path, events):
    root = tmp_path / "acts"
    with StoreWriter.open(root, SPEC) as writer:
        events.clear()
        fill(writer, rows_of(SPEC), 0)
    commit = root / "commits/00000000/zarr.json"
    at = events.index(("rename", str(commit)))
    before = {path for kind, path in events[:at] if kind == "fsync"}
    shards = [path for path in root.rglob("c/**/*") if path.is_file()]
    assert len(shards) == 15
    for shard in shards:
        assert str(shard) in before
        assert set(folders_of(root, shard)) <= before
        assert events.index(("rename", str(shard))) < events.index(("fsync", str(shard)))


def test_a_commit_is_on_the_disk_before_it_has_its_name_and_its_folders_after(tmp_path, events):
    root = tmp_path / "acts"
    with StoreWriter.open(root, SPEC) as writer:
        fill(writer, rows_of(SPEC), 0)
    commit = root / "commits/00000000/zarr.json"
    at = events.index(("rename", str(commit)))
    kind, path = events[at - 1]
    assert kind == "fsync"
    assert Path(path).name.startswith(".zarr.json.")
    assert Path(path).parent == commit.parent
    after = {path for kind, path in events[at:] if kind == "fsync"}
    assert set(folders_of(root, commit)) <= after


def test_the_root_is_on_the_disk_after_all_other_documents(tmp_path, events):
    root = tmp_path / "acts"
    StoreWriter.open(root, SPEC).close()
    at = events.index(("rename", str(root / "zarr.json")))
    before = {path for kind, path in events[:at] if kind == "fsync"}
    documents = set(root.rglob("zarr.json")) - {root / "zarr.json"}
    assert len(documents) == 8
    assert {str(path) for path in documents} <= before


def test_a_token_store_is_on_the_disk_before_its_root(tmp_path, events):
    root = tmp_path / "tokens"
    tokens = TokenStore.create(root, context=4, bos=2, eos=1, pad=0)
    tokens.write({"train": np.ones((5, 4), dtype=np.uint32)})
    at = events.index(("rename", str(root / "zarr.json")))
    before = {path for kind, path in events[:at] if kind == "fsync"}
    wanted = ("train/c/0/0", "train/c/0", "train/c", "train", "train/zarr.json")
    assert {str(root / path) for path in wanted} <= before


def test_a_folder_that_cannot_be_flushed_is_no_error(tmp_path, monkeypatch):
    fsync = os.fsync

    def refused(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().is_dir():
            raise OSError(22, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refused)
    LocalFiles(tmp_path).replace("a/b", b"x")
    assert (tmp_path / "a/b").read_bytes() == b"x"

    def broken(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output error"):
        LocalFiles(tmp_path).flush(["a/b"])


def test_writing_back_begins_while_a_large_object_is_written(tmp_path, monkeypatch):
    """Each stretch once, after it was handed to the kernel, and nothing beyond."""
    asked: list[tuple[int, int, int]] = []
    span = partials._SPAN

    def begin(descriptor: int, start: int, n_bytes: int, flags: int) -> int:
        assert os.fstat(descriptor).st_size >= start + n_bytes
        asked.append((start, n_bytes, flags))
        return 0

    monkeypatch.setattr(partials, "_SYNC_FILE_RANGE", begin)
    part = bytes(span // 2 + 1)
    LocalFiles(tmp_path).write("object", [part] * 5)
    assert asked == [(0, 2 * len(part), 2), (2 * len(part), 2 * len(part), 2)]
    assert (tmp_path / "object").stat().st_size == 5 * len(part)


def test_writing_back_is_left_to_the_kernel_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(partials.ctypes, "CDLL", lambda _name: object())
    assert partials._sync_file_range() is None
    monkeypatch.setattr(partials, "_SYNC_FILE_RANGE", None)
    LocalFiles(tmp_path).write("object", [bytes(2 * partials._SPAN)])
    assert (tmp_path / "object").stat().st_size == 2 * partials._SPAN


@pytest.mark.parametrize("background", [False, True])
def test_a_write_that_the_system_refuses_names_the_file_and_leaves_what_is_committed(
    tmp_path, background
):
    """The kernel's own refusal, at a limit to the size of files, at the second bucket."""
    spec = spec_of(sites={"resid_post.1": 24, "mlp_out.0": 200})
    rows, root = rows_of(spec), tmp_path / "acts"
    with StoreWriter.open(root, spec) as writer:
        fill(writer, rows, 0)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with (
            pytest.raises(OSError, match=r"File too large: '.*sites/mlp_out.0/c/3/0'"),
            StoreWriter.open(root, spec, background=background) as writer,
        ):
            fill(writer, rows, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path: path.read_bytes() for path in before} == before
    assert verify_store(root).problems == []
    with StoreWriter.open(root, spec) as writer:
        for bucket in range(1, writer.n_buckets):
            fill(writer, rows, bucket)
    assert verify_store(root).problems == []
