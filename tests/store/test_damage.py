"""Damage of any byte or object is an error that names the place, never a wrong number."""

import random
from pathlib import Path

import pytest
import torch

from scopeworks.store import ActivationStore, DamagedStoreError, StoreWriter
from scopeworks.store.tools.verify import verify_store, withdraw_buckets
from scopeworks.tests.store.making import SITES, Made, fill, make_store


def objects(url: str) -> list[Path]:
    return sorted(path for path in Path(url).rglob("*") if path.is_file())


def test_a_sound_store_verifies(made):
    report = verify_store(made.url)
    assert report.problems == []
    assert (report.buckets, report.n_buckets) == (4, 4)
    assert report.checked_bytes == sum(ActivationStore.open(made.url).stored_bytes.values())


def test_a_damaged_chunk_is_named_by_verify_and_by_the_stream(fresh):
    path = Path(fresh.url, "sites/resid_post.1/c/4/0")
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(data)
    named = r"resid_post.1: shard 4 \(.*sites/resid_post.1/c/4/0\): chunk 0 is damaged: its crc32c"
    stream = ActivationStore.open(fresh.url).stream("resid_post.1", 100)
    with stream, pytest.raises(DamagedStoreError, match=named):
        for _ in range(7):
            next(stream)
    (problem,) = verify_store(fresh.url).problems
    assert "resid_post.1: shard 4" in problem
    assert "chunk 0 is damaged" in problem


def test_a_missing_shard_is_named(fresh):
    Path(fresh.url, "sites/mlp_out.0/c/2/0").unlink()
    with pytest.raises(
        DamagedStoreError, match=r"mlp_out.0: shard 2 \(.*\): the object is missing"
    ):
        ActivationStore.open(fresh.url).read("mlp_out.0", 128, 130)
    (problem,) = verify_store(fresh.url).problems
    assert "mlp_out.0: shard 2" in problem
    assert "missing" in problem


def test_a_lost_commit_is_reported_and_its_rows_are_gone(fresh):
    Path(fresh.url, "commits/00000001/zarr.json").unlink()
    assert ActivationStore.open(fresh.url).rows == 700 - 192
    report = verify_store(fresh.url)
    assert (report.problems, report.buckets, report.n_buckets) == ([], 3, 4)
    (note,) = report.notes
    assert note.startswith("bucket 1 has data (15 shards) but no commit record")


def test_a_damaged_commit_is_refused_and_reported(fresh):
    path = Path(fresh.url, "commits/00000002/zarr.json")
    path.write_text(path.read_text().replace('"rows": 192', '"rows": 191'))
    with pytest.raises(DamagedStoreError, match=r"commit of bucket 2: .* the checksum"):
        ActivationStore.open(fresh.url)
    assert any("commit of bucket 2" in problem for problem in verify_store(fresh.url).problems)


def test_a_withdrawn_bucket_is_written_again_and_the_store_is_as_before(fresh):
    before = {path: path.read_bytes() for path in objects(fresh.url)}
    shard, record = (
        Path(fresh.url, name) for name in ("sites/resid_post.1/c/4/0", "commits/00000002/zarr.json")
    )
    shard.write_bytes(shard.read_bytes()[:-1])
    record.write_bytes(record.read_bytes()[:-9])
    report = verify_store(fresh.url)
    assert report.damaged == {1, 2}
    withdraw_buckets(fresh.url, report.damaged)
    assert ActivationStore.open(fresh.url).rows == 700 - 2 * 192
    with StoreWriter.open(fresh.url, fresh.spec) as writer:
        assert writer.committed == {0, 3}
        for bucket in (1, 2):
            fill(writer, fresh.rows, bucket)
    assert verify_store(fresh.url).problems == []
    assert {path: path.read_bytes() for path in objects(fresh.url)} == before


def read_everything(url: str) -> dict[str, torch.Tensor]:
    store = ActivationStore.open(url)
    rows = {site: store.read(site, 0, store.rows) for site in SITES}
    labels = store.labels(0, store.rows)
    with store.stream(list(SITES), 100) as stream:
        streamed = [{name: x.clone() for name, x in next(stream).items()} for _ in range(7)]
    rows |= {f"{site} streamed": torch.cat([batch[site] for batch in streamed]) for site in SITES}
    return rows | {name: torch.from_numpy(x) for name, x in labels._asdict().items()}


def damaged(made: Made, path: Path, data: bytes | None) -> None:
    """Replaces an object, and checks that nothing wrong comes out; then mends it."""
    good = path.read_bytes()
    expected = read_everything(made.url)
    try:
        path.unlink() if data is None else path.write_bytes(data)
        try:
            problems = verify_store(made.url).problems
        except (ValueError, FileNotFoundError) as error:
            problems = [str(error)]
        assert problems, f"{path}: not reported"
        try:
            found = read_everything(made.url)
        except (OSError, ValueError):
            return
        lost = len(found["token"]) < len(expected["token"])
        assert lost or all(torch.equal(found[name], x) for name, x in expected.items())
    finally:
        path.write_bytes(good)


@pytest.mark.parametrize("n", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_random_byte_flips_never_give_a_wrong_number(fresh, n):
    generator, paths = random.Random(3), objects(fresh.url)
    for _ in range(n):
        path = generator.choice(paths)
        data = bytearray(path.read_bytes())
        data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        damaged(fresh, path, bytes(data))


@pytest.mark.parametrize("n", [16, pytest.param(100, marks=pytest.mark.slow)])
def test_truncated_and_missing_objects_never_give_a_wrong_number(fresh, n):
    generator, paths = random.Random(4), objects(fresh.url)
    for i in range(n):
        path = generator.choice(paths)
        data = path.read_bytes()
        damaged(fresh, path, None if i % 4 == 0 else data[: generator.randrange(len(data))])


def test_a_sound_shard_in_the_place_of_another_is_reported(fresh):
    labels = Path(fresh.url, "labels/sequence/c")
    first, second = (labels / "0").read_bytes(), (labels / "1").read_bytes()
    commits = ActivationStore.open(fresh.url).commits
    records = commits[0].shards["labels/sequence"]
    assert records[0].crc32c != records[1].crc32c
    (labels / "0").write_bytes(second)
    (labels / "1").write_bytes(first)
    problems = verify_store(fresh.url).problems
    assert any("sequence: shard 0" in problem for problem in problems)
    assert any("sequence: shard 1" in problem for problem in problems)


def test_a_bucket_of_another_store_with_the_same_sizes_is_reported(tmp_path):
    """Rows of the same bytes but in other places compress to the same sizes."""
    one = make_store(tmp_path / "one", codec="float32", rows=192, sites={"mlp_out.0": 1})
    two = make_store(tmp_path / "two", codec="float32", rows=192, sites={"mlp_out.0": 1}, seed=6)
    path = "sites/mlp_out.0/c/0/0"
    assert Path(one.url, path).stat().st_size == Path(two.url, path).stat().st_size
    Path(one.url, path).write_bytes(Path(two.url, path).read_bytes())
    (problem,) = verify_store(one.url).problems
    assert "mlp_out.0: shard 0" in problem
    assert "it is another shard" in problem


@pytest.mark.parametrize("buckets", ["12", [1.0], None])
def test_what_are_no_buckets_are_not_withdrawn(made, buckets):
    with pytest.raises(ValueError, match="buckets must be a whole number from 0 on, got "):
        withdraw_buckets(made.url, buckets)
