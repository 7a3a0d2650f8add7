"""Room on the disk, known before a harvest begins."""

import shutil
from types import SimpleNamespace

import pytest

from scopeworks.harvest.rows.space import bytes_left, check_space
from scopeworks.store import StoreSpec, StoreWriter


def spec(**changes) -> StoreSpec:
    values = {
        "sites": {"a": 6, "b": 2},
        "rows": 400,
        "bucket_rows": 100,
        "codec": "fast",
        "seed": 1,
    }
    return StoreSpec(**(values | changes))


@pytest.fixture
def free(monkeypatch):
    """Sets the bytes that the disk has free."""

    def set_free(n_bytes: int) -> None:
        usage = SimpleNamespace(total=10**12, used=0, free=n_bytes)
        monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)

    return set_free


@pytest.mark.parametrize(("codec", "expected"), [("fast", 6400), ("exact", 4000), ("int8", 2000)])
def test_bytes_left_is_rows_by_width_by_bits(codec, expected):
    assert bytes_left(spec(codec=codec), 0) == expected
    assert bytes_left(spec(codec=codec), 100) == expected * 3 // 4
    assert bytes_left(spec(codec=codec), 401) == 0


def test_check_space_refuses_what_the_disk_cannot_hold(tmp_path, free):
    free(6400)
    check_space(str(tmp_path / "a" / "store"), spec(), None)
    free(6399)
    with pytest.raises(
        ValueError, match=r"at least 0\.006 MB more \(400 rows of 8 values, codec f"
    ):
        check_space(str(tmp_path / "a" / "store"), spec(), None)
    check_space("gs://bucket/store", spec(), None)


def test_check_space_counts_what_is_committed(tmp_path, free):
    import torch

    store = str(tmp_path / "store")
    with StoreWriter.open(store, spec()) as writer, writer.bucket(0) as bucket:
        labels = [torch.zeros(100, dtype=torch.int64).numpy()] * 3
        bucket.append({"a": torch.ones(100, 6), "b": torch.ones(100, 2)}, *labels)
    free(4800)
    check_space(store, spec(), spec())
    free(4799)
    with pytest.raises(ValueError, match=r"0\.005 MB more"):
        check_space(store, spec(), spec())
