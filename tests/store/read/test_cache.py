"""The read cache: same values, no second read, bounded, never stale, checked."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from scopeworks.store import ActivationStore, DamagedStoreError, StoreWriter
from scopeworks.store.place.remote import RemoteObjects
from scopeworks.store.read import cache
from scopeworks.tests.store.clouds import BUCKET, Faults, faulty_proxy, gcs_emulator, gcs_options
from scopeworks.tests.store.making import fill, make_store, rows_of, spec_of


@pytest.fixture
def url(tmp_path) -> str:
    return make_store(f"memory://{tmp_path.name}-cache").url


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """Keys of the ranges that were read from the remote."""
    found: list[str] = []
    read_into = RemoteObjects.read_into

    def counted(self, key, start, out):
        found.append(key)
        return read_into(self, key, start, out)

    monkeypatch.setattr(RemoteObjects, "read_into", counted)
    return found


def held(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_a_second_reader_reads_nothing_remote(url, reads, tmp_path):
    expected = ActivationStore.open(url).read("mlp_out.0", 0, 700)
    first = ActivationStore.open(url, cache_dir=tmp_path)
    assert torch.equal(first.read("mlp_out.0", 0, 700), expected)
    reads.clear()
    second = ActivationStore.open(url, cache_dir=tmp_path)
    assert torch.equal(second.read("mlp_out.0", 0, 700), expected)
    assert reads == []


def test_the_cache_stays_within_its_bound(url, reads, tmp_path):
    store = ActivationStore.open(url, cache_dir=tmp_path, cache_bytes=2000)
    expected = ActivationStore.open(url).read("resid_post.1", 0, 700)
    for _ in range(2):
        assert torch.equal(store.read("resid_post.1", 0, 700), expected)
        assert 0 < held(tmp_path) <= 2000
    smaller = ActivationStore.open(url, cache_dir=tmp_path, cache_bytes=1000)
    assert held(tmp_path) <= 1000
    assert torch.equal(smaller.read("resid_post.1", 0, 700), expected)


def test_another_store_at_the_same_url_is_not_read_from_the_cache(tmp_path):
    name = f"memory://{tmp_path.name}-again"
    make_store(name)
    ActivationStore.open(name, cache_dir=tmp_path).read("mlp_out.0", 0, 700)
    import fsspec

    fsspec.filesystem("memory").rm(f"/{tmp_path.name}-again", recursive=True)
    make_store(name, seed=6)
    cached = ActivationStore.open(name, cache_dir=tmp_path).read("mlp_out.0", 0, 700)
    assert torch.equal(cached, ActivationStore.open(name).read("mlp_out.0", 0, 700))


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_damaged_entries_are_fetched_again_and_replaced(url, reads, tmp_path):
    expected = ActivationStore.open(url, cache_dir=tmp_path).read("mlp_out.0", 0, 700)
    entries = list(tmp_path.rglob("*.range"))
    sound = {path: path.read_bytes() for path in entries}
    damage(entries[0])
    entries[1].write_bytes(b"cut")
    reads.clear()
    store = ActivationStore.open(url, cache_dir=tmp_path)
    assert torch.equal(store.read("mlp_out.0", 0, 700), expected)
    assert len(reads) == 2
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.range")} == sound


def test_what_is_damaged_on_the_way_is_fetched_once_more(url, monkeypatch, tmp_path):
    read_into, calls = RemoteObjects.read_into, []

    def flipped(self, key, start, out):
        calls.append((key, start))
        found = read_into(self, key, start, out)
        if calls.count((key, start)) == 1:
            out[len(out) // 2] ^= 1
        return found

    expected = ActivationStore.open(url).read("mlp_out.0", 0, 700)
    monkeypatch.setattr(RemoteObjects, "read_into", flipped)
    store = ActivationStore.open(url, cache_dir=tmp_path)
    assert torch.equal(store.read("mlp_out.0", 0, 700), expected)
    assert all(calls.count(call) == 2 for call in calls)


def test_damage_at_the_source_is_an_error_and_not_kept(url, reads, tmp_path):
    from scopeworks.store.place.locate import locate

    location, key = locate(url), "sites/mlp_out.0/c/2/0"
    sound = location.read(key)
    flipped = bytearray(sound)
    flipped[20] ^= 1
    location.write(key, [bytes(flipped)])
    store = ActivationStore.open(url, cache_dir=tmp_path)
    with pytest.raises(DamagedStoreError, match=r"mlp_out.0: shard 2 .*: chunk 0 is damaged"):
        store.read("mlp_out.0", 128, 140)
    assert reads.count(key) == 3  # its index, and the chunk twice
    location.write(key, [sound])
    expected = ActivationStore.open(url).read("mlp_out.0", 128, 140)
    assert torch.equal(store.read("mlp_out.0", 128, 140), expected)


def test_growing_keeps_what_stays(reads, tmp_path):
    url = f"memory://{tmp_path.name}-grown"
    spec = spec_of(rows=576)
    with StoreWriter.open(url, spec) as writer:
        for bucket in range(3):
            fill(writer, rows_of(spec), bucket)
    ActivationStore.open(url, cache_dir=tmp_path).read("mlp_out.0", 0, 576)
    spec = spec_of(rows=1000)
    with StoreWriter.open(url, spec) as writer:
        for bucket in (3, 4, 5):
            fill(writer, rows_of(spec), bucket)
    reads.clear()
    found = ActivationStore.open(url, cache_dir=tmp_path).read("mlp_out.0", 0, 1000)
    assert {int(key.split("/")[3]) for key in reads} == set(range(9, 16))
    assert torch.equal(found, ActivationStore.open(url).read("mlp_out.0", 0, 1000))


def test_the_folder_may_be_text_and_begin_with_a_tilde(url, reads, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    store = ActivationStore.open(url, cache_dir="~/cache")
    store.read("mlp_out.0", 0, 10)
    assert held(tmp_path / "cache") > 0


@pytest.fixture
def slow_reads(reads, monkeypatch) -> list[str]:
    """The same, each of which takes a while."""
    counted = RemoteObjects.read_into

    def slow(self, key, start, out):
        time.sleep(0.02)
        return counted(self, key, start, out)

    monkeypatch.setattr(RemoteObjects, "read_into", slow)
    return reads


def test_readers_at_the_same_time_fetch_each_range_once(url, slow_reads, tmp_path):
    expected = ActivationStore.open(url).read("mlp_out.0", 0, 700)
    slow_reads.clear()
    ActivationStore.open(url, cache_dir=tmp_path / "one").read("mlp_out.0", 0, 700)
    n_ranges = len(slow_reads)
    slow_reads.clear()
    stores = [ActivationStore.open(url, cache_dir=tmp_path / "all") for _ in range(4)]
    found: list[torch.Tensor] = []
    threads = [
        threading.Thread(target=lambda s=s: found.append(s.read("mlp_out.0", 0, 700)))
        for s in stores
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [bool(torch.equal(one, expected)) for one in found] == [True] * 4
    assert len(slow_reads) == n_ranges
    assert list((tmp_path / "all").rglob("*.lock")) == []


def test_a_range_whose_fetcher_stalls_is_fetched_by_the_others(url, reads, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "PATIENCE_S", 0.05)
    store = ActivationStore.open(url, cache_dir=tmp_path)
    names = []
    alone = cache._alone

    def noted(path):
        names.append(path)
        return alone(path)

    monkeypatch.setattr(cache, "_alone", noted)
    expected = store.read("mlp_out.0", 0, 10)
    chunk = names[-1]
    chunk.unlink()
    reads.clear()
    with alone(chunk):
        assert torch.equal(store.read("mlp_out.0", 0, 10), expected)
    assert len(reads) == 1
    assert chunk.is_file()


def test_a_folder_without_locks_is_used_as_before(url, reads, tmp_path, monkeypatch):
    def no_locks(*_: object, **_more: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(cache.FileLock, "acquire", no_locks)
    store = ActivationStore.open(url, cache_dir=tmp_path)
    expected = store.read("mlp_out.0", 0, 700)
    reads.clear()
    assert torch.equal(store.read("mlp_out.0", 0, 700), expected)
    assert reads == []


def test_what_another_process_keeps_counts_towards_the_bound(url, reads, tmp_path):
    """Two readers of different sites, whose ranges neither sees the other fetch."""
    stores = [ActivationStore.open(url, cache_dir=tmp_path, cache_bytes=8000) for _ in range(2)]
    for start in range(0, 640, 64):
        for store, site in zip(stores, ("resid_post.1", "mlp_out.0"), strict=True):
            store.read(site, start, start + 64)
            assert held(tmp_path) <= 8000 * (1 + 2 / 8)
    assert held(tmp_path) > 4000


def test_what_killed_processes_left_is_swept_once_it_is_old(url, tmp_path):
    ActivationStore.open(url, cache_dir=tmp_path).read("mlp_out.0", 0, 10)
    folder = next(tmp_path.iterdir())
    old, new = folder / "a.1.partial", folder / "b.2.partial"
    lock = folder / "c.lock"
    for path in (old, new, lock):
        path.write_bytes(b"half")
    for path in (old, lock):
        os.utime(path, (0, 0))
    ActivationStore.open(url, cache_dir=tmp_path)
    assert [path.exists() for path in (old, new, lock)] == [False, True, False]


TWO_USERS = """
import os, sys
from pathlib import Path
from scopeworks.store import ActivationStore
from scopeworks.tests.store.making import make_store
from scopeworks.tests.store.read.test_cache import damage
folder, case = Path(sys.argv[1]), sys.argv[2]
url = make_store("memory://two-users").url
wanted = ActivationStore.open(url, cache_dir=folder).read("mlp_out.0", 0, 700)
for entry in folder.rglob("*.range"):
    if case == "damaged":
        damage(entry)
    entry.chmod(0o600 if case == "private" else 0o644)
os.setuid(65534)
most = 1000 if case == "full" else 10**6
store = ActivationStore.open(url, cache_dir=folder, cache_bytes=most)
for _ in range(2):
    assert store.read("mlp_out.0", 0, 700).equal(wanted)
print(len(list(folder.rglob("*.range"))))
"""
"""One fills the folder, the other reads from it and may not write there."""


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs root")
@pytest.mark.parametrize("case", ["full", "damaged", "private"])
def test_ranges_that_only_another_user_may_read_or_remove_do_not_end_reading(case):
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to other users
        Path(folder).chmod(0o755)
        command = [sys.executable, "-c", TWO_USERS, folder, case]
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert found.returncode == 0, found.stderr
        assert int(found.stdout) > 4


@pytest.fixture(scope="module")
def counting_bucket() -> Iterator[tuple[str, dict[str, Any], Faults]]:
    """A store of 2 MB in an emulated bucket, its options, and a count of what is fetched."""
    pytest.importorskip("gcp_storage_emulator")
    faults = Faults(0.0, seed=0)
    with pytest.MonkeyPatch.context() as patch, gcs_emulator() as port:
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        with faulty_proxy(port, faults) as proxy:
            patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{proxy}")
            options = gcs_options(proxy)
            spec = spec_of(
                sites={"resid_post.1": 64},
                rows=16384,
                bucket_rows=4096,
                chunk_rows=256,
                shard_rows=2048,
            )
            with StoreWriter.open(f"gs://{BUCKET}/shared", spec, storage_options=options) as writer:
                for bucket in range(writer.n_buckets):
                    fill(writer, rows_of(spec), bucket, step=1024)
            yield f"gs://{BUCKET}/shared", options, faults


TRAINER = """
import hashlib, itertools, json, sys
from scopeworks.store import ActivationStore
url, options, folder = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
store = ActivationStore.open(url, options, cache_dir=folder)
print("ready", flush=True)
input()
digest = hashlib.sha256()
with store.stream("resid_post.1", 1024) as stream:
    for batch in itertools.islice(stream, 32):
        digest.update(batch.numpy().tobytes())
print(digest.hexdigest())
"""
"""Two epochs of the store, once it is told to begin."""


@pytest.mark.slow
@pytest.mark.emulator
@pytest.mark.parametrize("apart_s", [0.0, 0.5])
@pytest.mark.parametrize("n", [1, 2, 4])
def test_processes_fetch_a_store_once_between_them(counting_bucket, tmp_path, n, apart_s):
    url, options, faults = counting_bucket
    size = ActivationStore.open(url, options).stored_bytes["sites/resid_post.1"]
    before = faults.fetched_bytes
    command = [sys.executable, "-c", TRAINER, url, json.dumps(options), str(tmp_path)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(n)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        time.sleep(apart_s)
    said = {process.communicate(timeout=300)[0] for process in processes}
    assert [process.returncode for process in processes] == [0] * n
    assert len(said) == 1
    fetched = faults.fetched_bytes - before
    print(f"{n} processes, {apart_s} s apart: {fetched / size:.3f} of {size} bytes")
    assert fetched <= 1.1 * size
