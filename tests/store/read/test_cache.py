"""The read cache: same values, no second read, bounded, never stale, checked."""

from pathlib import Path

import pytest
import torch

from scopeworks.store import ActivationStore, DamagedStoreError, StoreWriter
from scopeworks.store.place.remote import RemoteObjects
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
