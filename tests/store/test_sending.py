"""Shards that are sent while the next ones are made: all of them, a bounded number of bytes, and no
commit where one is lost."""

import threading
from collections.abc import Callable

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from scopeworks.store import ActivationStore, StoreWriter
from scopeworks.store.location import LocalFiles, locate
from scopeworks.store.sending import shelf
from scopeworks.tests.store.making import fill, make_store, rows_of, spec_of


@pytest.fixture
def url():
    yield "memory://sent"
    fsspec.filesystem("memory").store.clear()


def slow_down(monkeypatch: pytest.MonkeyPatch, before: Callable[[str], None]) -> None:
    """Calls `before` with the path of every object that is put."""
    plain = MemoryFileSystem.pipe_file

    def pipe_file(self, path, value, *args, **kwargs):
        before(path)
        return plain(self, path, value, *args, **kwargs)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", pipe_file)


def test_objects_are_sent_side_by_side(url, monkeypatch):
    together = threading.Barrier(3, timeout=10)

    def meet(_path: str) -> None:
        together.wait()

    slow_down(monkeypatch, meet)
    with shelf(locate(url), 1000) as place:
        for name in "abc":  # one after the other would break the barrier
            place.write(name, [name.encode(), b"!"])
        place.flush("abc")
    assert [locate(url).read(name) for name in "abc"] == [b"a!", b"b!", b"c!"]


def test_bytes_under_way_are_bounded(url, monkeypatch):
    held: list[int] = []
    under_way, lock = 0, threading.Lock()

    def parts():
        with lock:
            held.append(under_way)
        yield b"x" * 100

    plain = MemoryFileSystem.pipe_file

    def pipe_file(self, path, value, *args, **kwargs):
        nonlocal under_way
        with lock:
            under_way += len(value)
            held.append(under_way)
        plain(self, path, value, *args, **kwargs)
        with lock:
            under_way -= len(value)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", pipe_file)
    with shelf(locate(url), 250) as place:
        for i in range(40):
            place.write(str(i), parts())
        place.flush([])
    assert max(held) <= 200
    assert len(locate(url).children()) == 40


def test_an_object_larger_than_the_bound_is_sent_alone(url):
    with shelf(locate(url), 10) as place:
        place.write("a", [b"x" * 100])
        place.write("b", [b"y" * 100])
        place.flush(["a", "b"])
    assert locate(url).read("b") == b"y" * 100


def test_a_local_disk_is_written_to_directly(tmp_path):
    place = LocalFiles(tmp_path)
    with shelf(place, 10) as found:
        assert found is place


def test_a_lost_object_is_an_error_and_no_commit(url, monkeypatch):
    spec = spec_of()
    rows = rows_of(spec)

    def fail(path: str) -> None:
        if path.endswith("sites/mlp_out.0/c/1/0"):
            raise PermissionError("no right to write")

    with monkeypatch.context() as patch:
        slow_down(patch, fail)
        writer = StoreWriter.open(url, spec)
        with pytest.raises(OSError, match="no right to write"):
            fill(writer, rows, 0)
        writer.close()
    assert ActivationStore.open(url).rows == 0
    assert not [key for key in fsspec.filesystem("memory").store if "/c/" in key]
    with StoreWriter.open(url, spec) as writer:
        for bucket in range(writer.n_buckets):
            fill(writer, rows, bucket)
    whole = make_store("memory://sent-whole")
    np.testing.assert_array_equal(
        ActivationStore.open(url).read("mlp_out.0", 0, spec.rows),
        ActivationStore.open(whole.url).read("mlp_out.0", 0, spec.rows),
    )


def test_streams_of_far_stores_ask_for_many_chunks_at_once(url):
    made = make_store(url)
    few = ActivationStore.open(url).stream("mlp_out.0", 100, threads=1)
    asked = ActivationStore.open(made.url).stream("mlp_out.0", 100)
    with few, asked:
        assert asked._pool._max_workers == 32
        for _ in range(10):
            assert (next(few) == next(asked)).all()
