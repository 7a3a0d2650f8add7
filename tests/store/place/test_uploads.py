"""Shards that are sent while the next ones are made: all of them, a bounded number of bytes, and no
commit where one is lost."""

import threading
import time
from collections.abc import Callable

import fsspec
import numpy as np
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem

from scopeworks.store import ActivationStore, StoreWriter
from scopeworks.store.place.local import LocalFiles
from scopeworks.store.place.locate import locate
from scopeworks.store.place.uploads import sending
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
    with sending(locate(url), 1000) as place:
        for name in "abc":  # one after the other would break the barrier
            place.write(name, [name.encode(), b"!"])
        place.flush("abc")
    assert [locate(url).read(name) for name in "abc"] == [b"a!", b"b!", b"c!"]


def test_bytes_under_way_are_bounded(url, monkeypatch):
    under_way, most, lock = 0, 0, threading.Lock()
    allowed = threading.Semaphore(0)
    plain = MemoryFileSystem.pipe_file

    def pipe_file(self, path, value, *args, **kwargs):
        nonlocal under_way, most
        with lock:
            under_way += len(value)
            most = max(most, under_way)
        assert allowed.acquire(timeout=10)
        plain(self, path, value, *args, **kwargs)
        with lock:
            under_way -= len(value)

    def write() -> None:
        with sending(locate(url), 250) as place:
            for i in range(12):
                place.write(str(i), [b"x" * 100])
            place.flush([])

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", pipe_file)
    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(12):  # time to begin more than is allowed
        time.sleep(0.03)
        allowed.release()
    writer.join(10)
    assert most == 200
    assert len(locate(url).children()) == 12


def test_a_failure_is_told_at_the_next_write_and_nothing_is_under_way_after_it(url, monkeypatch):
    done = []

    def before(path: str) -> None:
        if path.endswith("/0"):
            raise PermissionError("no right to write")
        time.sleep(0.2)
        done.append(path)

    slow_down(monkeypatch, before)
    begun = 0
    with pytest.raises(OSError, match="no right"), sending(locate(url), 1000) as place:
        for i in range(100):
            place.write(str(i), [b"x"])
            begun += 1
            time.sleep(0.02)
    assert begun < 20
    ended = len(done)
    time.sleep(0.3)
    assert len(done) == ended


def test_an_object_larger_than_the_bound_is_sent_alone(url):
    with sending(locate(url), 10) as place:
        place.write("a", [b"x" * 100])
        place.write("b", [b"y" * 100])
        place.flush(["a", "b"])
    assert locate(url).read("b") == b"y" * 100


def test_a_local_disk_is_written_to_directly(tmp_path):
    place = LocalFiles(tmp_path)
    with sending(place, 10) as found:
        assert found is place


def test_a_lost_object_is_an_error_and_no_commit(url, monkeypatch):
    spec = spec_of()
    rows = rows_of(spec)

    def fail(path: str) -> None:
        if path.endswith("sites/mlp_out.0/c/1/0"):
            raise PermissionError("no right to write")
        time.sleep(0.1 if "/c/" in path else 0)

    with monkeypatch.context() as patch:
        slow_down(patch, fail)
        writer = StoreWriter.open(url, spec)
        with pytest.raises(OSError, match="no right to write"):
            fill(writer, rows, 0)
        writer.close()
    assert ActivationStore.open(url).rows == 0
    left = set(fsspec.filesystem("memory").store)
    time.sleep(0.2)  # nothing comes after all
    assert set(fsspec.filesystem("memory").store) == left
    with StoreWriter.open(url, spec) as writer:
        for bucket in range(writer.n_buckets):
            fill(writer, rows, bucket)
    whole = make_store("memory://sent-whole")
    np.testing.assert_array_equal(
        ActivationStore.open(url).read("mlp_out.0", 0, spec.rows),
        ActivationStore.open(whole.url).read("mlp_out.0", 0, spec.rows),
    )


def test_streams_of_far_stores_read_many_chunks_at_once(url, monkeypatch):
    made = make_store(url)
    with ActivationStore.open(url).stream("mlp_out.0", 128, threads=1) as few:
        expected = [next(few).clone() for _ in range(10)]
    plain, lock, under_way, most = MemoryFileSystem.cat_file, threading.Lock(), 0, 0

    def cat_file(self, path, start=None, end=None, **options):
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.03)
        with lock:
            under_way -= 1
        return plain(self, path, start, end, **options)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", cat_file)
    with ActivationStore.open(made.url).stream("mlp_out.0", 128) as stream:
        for batch in expected:
            assert torch.equal(next(stream), batch)
    assert most > 4  # more than there are batches ahead


def test_threads_must_be_some(url):
    make_store(url)
    with pytest.raises(ValueError, match="threads must be a whole number from 1 on, got 0"):
        ActivationStore.open(url).stream("mlp_out.0", 100, threads=0)
