"""Two processes seal one bucket at the same time, in every order of events, and fail in between."""

import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from scopeworks.store import ActivationStore, StoreWriter
from scopeworks.store.format.root import create, read_root
from scopeworks.store.place.local import LocalFiles
from scopeworks.store.tools.verify import verify_store
from scopeworks.tests.store.making import fill, rows_of, spec_of

SPEC = spec_of(sites={"mlp_out.0": 7}, rows=100, bucket_rows=128)
ROWS = rows_of(SPEC)


class Turns:
    """Lets one of several threads at a time do its next step; which one, chance decides."""

    def __init__(self, generator: random.Random, names: list[str]):
        self._random, self._alive = generator, names
        self._changed = threading.Condition()
        self._next = generator.choice(names)

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._next == name)
            yield
            self._next = self._random.choice(self._alive)
            self._changed.notify_all()

    def leave(self, name: str) -> None:
        with self._changed:
            self._alive.remove(name)
            if self._alive:
                self._next = self._random.choice(self._alive)
            self._changed.notify_all()


class Stepped(LocalFiles):
    """A folder whose every operation waits for its turn; operation `fails` raises, done or not."""

    def __init__(self, root: Path, turns: Turns, name: str, fails: int | None, done: bool):
        super().__init__(root)
        self._turns, self._name, self._fails, self._done, self._count = turns, name, fails, done, 0

    def _step(self, operation: Callable[..., Any], *arguments: Any) -> Any:
        with self._turns.turn(self._name):
            self._count += 1
            failing = self._count == self._fails
            if failing and not self._done:
                raise OSError(28, "No space left on device")
            result = operation(*arguments)
            if failing:
                raise OSError(5, "Input/output error")
            return result

    def read(self, key, start=0, stop=None):
        return self._step(super().read, key, start, stop)

    def size(self, key):
        return self._step(super().size, key)

    def write(self, key, parts):
        return self._step(super().write, key, parts)

    def replace(self, key, data):
        return self._step(super().replace, key, data)

    def remove(self, key):
        return self._step(super().remove, key)

    def sweep(self, keys):
        return self._step(super().sweep, keys)

    def flush(self, keys):
        return self._step(super().flush, list(keys))


def seal_at_once(url: Path, generator: random.Random, failing: list[str]) -> dict[str, bool]:
    """Two threads seal bucket 0, those of `failing` with an error at some operation; returns
    whether each of them ended well."""
    create(LocalFiles(url), SPEC)
    root, turns = read_root(LocalFiles(url)), Turns(generator, ["a", "b"])
    places = {
        name: Stepped(
            url,
            turns,
            name,
            generator.randint(1, 40) if name in failing else None,
            generator.random() < 0.3,
        )
        for name in ("a", "b")
    }
    well = {}

    def run(name: str) -> None:
        location = places[name]
        try:
            with StoreWriter(location, root) as writer:
                fill(writer, ROWS, 0)
            well[name] = True
        except OSError:
            well[name] = False
        finally:
            turns.leave(name)

    threads = [threading.Thread(target=run, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return well


@pytest.mark.parametrize("trials", [60, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("failing", [[], ["a"], ["a", "b"]], ids=["none fails", "one", "both"])
def test_what_is_committed_in_the_end_is_whole(tmp_path, monkeypatch, failing, trials):
    monkeypatch.setattr("os.fsync", lambda _descriptor: None)
    committed = 0
    for trial in range(trials):
        url = tmp_path / str(trial)
        well = seal_at_once(url, random.Random(trial), failing)
        report = verify_store(url)
        assert report.problems == [], trial
        assert not (report.buckets and report.notes), trial
        store = ActivationStore.open(url)
        committed += store.complete
        if not failing:
            assert well == {"a": True, "b": True}
        if all(well.values()):
            assert store.complete, trial
            assert store.read("mlp_out.0", 0, 100).shape == (100, 7)
        with StoreWriter.open(url, SPEC) as writer:  # whatever is left, the next one completes
            fill(writer, ROWS, 0)
        assert (verify_store(url).problems, verify_store(url).notes) == ([], []), trial
    if failing == ["a"]:
        assert committed > 0.8 * trials


def test_a_twin_that_finds_the_bucket_committed_leaves_it_alone(tmp_path, monkeypatch):
    with StoreWriter.open(tmp_path, SPEC) as one, StoreWriter.open(tmp_path, SPEC) as two:
        with two.bucket(0) as bucket:
            number = torch.arange(100)
            labels = {"token": number % 97, "sequence": number // 10, "position": number % 10}
            bucket.append(ROWS, **labels)
            fill(one, ROWS, 0)
            monkeypatch.setattr(LocalFiles, "write", None)  # nothing may be written from here on
        assert two.committed == {0}


def test_a_failure_does_not_remove_what_a_twin_has_committed(tmp_path, monkeypatch):
    write = LocalFiles.write
    with StoreWriter.open(tmp_path, SPEC) as one, StoreWriter.open(tmp_path, SPEC) as two:

        def fails_late(self, key, parts):
            if "labels/position" in key:
                monkeypatch.setattr(LocalFiles, "write", write)
                fill(two, ROWS, 0)
                raise OSError(28, "No space left on device")
            write(self, key, parts)

        monkeypatch.setattr(LocalFiles, "write", fails_late)
        with pytest.raises(OSError, match="No space left"):
            fill(one, ROWS, 0)
    assert verify_store(tmp_path).problems == []
    assert ActivationStore.open(tmp_path).complete


def test_two_processes_with_different_rows_are_told_and_nothing_is_committed(tmp_path, monkeypatch):
    write = LocalFiles.write
    with StoreWriter.open(tmp_path, SPEC) as one, StoreWriter.open(tmp_path, SPEC) as two:

        def overtaken(self, key, parts):
            if "labels/token" in key:
                monkeypatch.setattr(LocalFiles, "write", write)
                fill(two, {site: 2 * x for site, x in ROWS.items()}, 0)
            write(self, key, parts)

        monkeypatch.setattr(LocalFiles, "write", overtaken)
        with pytest.raises(OSError, match=r"bucket 0 of .* by two processes with different rows"):
            fill(one, ROWS, 0)
        assert one.committed == set()
        fill(one, ROWS, 0)
    assert verify_store(tmp_path).problems == []


def test_a_failed_writer_leaves_its_shards_lying_and_the_next_one_replaces_them(
    tmp_path, monkeypatch
):
    write = LocalFiles.write

    def fails_late(self, key, parts):
        if "labels/position" in key:
            raise OSError(28, "No space left on device")
        write(self, key, parts)

    with StoreWriter.open(tmp_path, SPEC) as writer:
        monkeypatch.setattr(LocalFiles, "write", fails_late)
        with pytest.raises(OSError, match="No space left"):
            fill(writer, {site: 2 * x for site, x in ROWS.items()}, 0)
        assert writer.committed == set()
        assert (tmp_path / "labels/token/c/0").exists()
        monkeypatch.setattr(LocalFiles, "write", write)
        fill(writer, ROWS, 0)
    assert (verify_store(tmp_path).problems, verify_store(tmp_path).notes) == ([], [])


def test_a_commit_whose_write_fails_after_all_is_kept_whole(tmp_path, monkeypatch):
    replace = LocalFiles.replace

    def unsure(self, key, data):
        replace(self, key, data)
        raise OSError(5, "Input/output error")

    with StoreWriter.open(tmp_path, SPEC) as writer:
        monkeypatch.setattr(LocalFiles, "replace", unsure)
        with pytest.raises(OSError, match="Input/output error"):
            fill(writer, ROWS, 0)
    assert verify_store(tmp_path).problems == []
    assert ActivationStore.open(tmp_path).complete


def test_leftovers_of_killed_writers_are_swept_but_not_a_living_ones_file(tmp_path):
    location = LocalFiles(tmp_path)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / ".0.0123456789ab.partial").write_bytes(b"left behind")

    def parts():
        yield b"one "
        assert len(list((tmp_path / "c").iterdir())) == 2
        location.sweep(["c/0", "c/1"])
        assert len(list((tmp_path / "c").iterdir())) == 1
        yield b"two"

    location.write("c/0", parts())
    assert location.read("c/0") == b"one two"
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["0"]


def test_where_files_cannot_be_locked_only_old_leftovers_are_swept(tmp_path, monkeypatch):
    def none(_descriptor, _operation):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    location = LocalFiles(tmp_path)
    location.write("0", [b"x"])
    for name, age_s in (("new", 10), ("old", 5000)):
        path = tmp_path / f".0.{name}.partial"
        path.write_bytes(b"x")
        then = path.stat().st_mtime - age_s
        os.utime(path, (then, then))
    location.sweep(["0"])
    assert {path.name for path in tmp_path.iterdir()} == {"0", ".0.new.partial"}
