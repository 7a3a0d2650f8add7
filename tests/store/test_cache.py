"""The read cache: same values, no second read, bounded, never stale, checked."""

from pathlib import Path

import pytest
import torch

from scopeworks.store import ActivationStore, DamagedStoreError
from scopeworks.store.remote import RemoteObjects
from scopeworks.tests.store.making import make_store


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


def test_a_damaged_cache_is_found_by_the_checksums(url, tmp_path):
    ActivationStore.open(url, cache_dir=tmp_path).read("mlp_out.0", 0, 700)
    for path in tmp_path.rglob("*.range"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    with pytest.raises(DamagedStoreError, match="damaged"):
        ActivationStore.open(url, cache_dir=tmp_path).read("mlp_out.0", 0, 700)
