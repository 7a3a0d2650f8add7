"""Writing: sums, commits, refusals, redo, and what is left after failures."""

from pathlib import Path

import pytest
import torch

from scopeworks.store import ActivationStore, StoreSpec, StoreWriter
from scopeworks.store.write import writer as writer_module
from scopeworks.tests.store.making import fill, make_store, numbers, rows_of, spec_of


def contents(url: str | Path) -> dict[str, bytes]:
    return {str(p.relative_to(url)): p.read_bytes() for p in Path(url).rglob("*") if p.is_file()}


def test_sums_equal_those_of_the_stored_rows(made):
    store = ActivationStore.open(made.url)
    for site in store.sites:
        x = made.rows[site].to(torch.bfloat16).double()
        torch.testing.assert_close(store.mean(site), x.mean(0), rtol=1e-13, atol=1e-13)
        expected = float((x * x).sum(1).mean().sqrt())
        assert store.normaliser(site) == pytest.approx(expected, rel=1e-14)


def test_every_row_is_stored_once_with_its_labels(made):
    store = ActivationStore.open(made.url)
    number = numbers(store, 0, store.rows)
    assert torch.equal(number.sort().values, torch.arange(store.rows))
    assert torch.equal(torch.from_numpy(store.labels(0, store.rows).token), number % 97)
    for site in store.sites:
        expected = made.rows[site].to(torch.bfloat16).float()[number]
        assert torch.equal(store.read(site, 0, store.rows), expected)


def test_append_sizes_and_bucket_order_do_not_change_a_byte(made, tmp_path):
    with StoreWriter.open(tmp_path / "acts", made.spec) as writer:
        for bucket in (2, 0, 3, 1):
            fill(writer, made.rows, bucket, step=17)
    assert contents(tmp_path / "acts") == contents(made.url)


def test_a_scratch_file_gives_the_same_bytes_as_memory(made, tmp_path):
    with StoreWriter.open(
        tmp_path / "acts", made.spec, memory_bytes=0, scratch_dir=tmp_path
    ) as writer:
        for bucket in range(writer.n_buckets):
            fill(writer, made.rows, bucket)
    assert contents(tmp_path / "acts") == contents(made.url)
    assert [path.name for path in tmp_path.iterdir()] == ["acts"]


def test_readers_see_committed_buckets_only(tmp_path):
    spec = spec_of()
    rows = rows_of(spec)
    with StoreWriter.open(tmp_path, spec) as writer:
        for bucket in (0, 2):
            fill(writer, rows, bucket)
        assert writer.committed == {0, 2}
    store = ActivationStore.open(tmp_path)
    assert (store.rows, store.complete) == (2 * 192, False)
    expected = set(range(192)) | set(range(384, 576))
    assert set(numbers(store, 0, store.rows).tolist()) == expected
    part = store.read("mlp_out.0", 100, 300)
    assert torch.equal(part, store.read("mlp_out.0", 0, 384)[100:300])
    with pytest.raises(ValueError, match=r"rows must be within 0 … 384, got 0 … 385"):
        store.read("mlp_out.0", 0, 385)


def test_an_exception_leaves_the_bucket_uncommitted_and_nothing_behind(tmp_path):
    spec = spec_of()
    with StoreWriter.open(tmp_path, spec) as writer:
        before = contents(tmp_path)
        with pytest.raises(RuntimeError, match="model broke"), writer.bucket(1):
            raise RuntimeError("model broke")
        assert writer.committed == set()
    assert contents(tmp_path) == before


def test_a_failed_write_commits_nothing_and_leaves_what_was_there(tmp_path, monkeypatch):
    from scopeworks.store.place.local import LocalFiles

    spec = spec_of()
    with StoreWriter.open(tmp_path, spec) as writer:
        before = contents(tmp_path)
        write = LocalFiles.write

        def full(self, key, parts):
            if "labels/position" in key:
                raise OSError(28, "No space left on device")
            write(self, key, parts)

        monkeypatch.setattr(LocalFiles, "write", full)
        with pytest.raises(OSError, match="No space left"):
            fill(writer, rows_of(spec), 0)
        monkeypatch.undo()
        assert contents(tmp_path).items() >= before.items()
        assert writer.committed == set()
        fill(writer, rows_of(spec), 0)
        assert writer.committed == {0}


def test_a_bucket_with_too_few_rows_is_refused(tmp_path):
    with StoreWriter.open(tmp_path, spec_of()) as writer:
        with (
            pytest.raises(ValueError, match="bucket 0 must get 192 rows, got 5"),
            writer.bucket(0) as bucket,
        ):
            append(bucket, 5)
        assert writer.committed == set()


def append(bucket, n: int, **changes) -> None:
    rows = {"resid_post.1": torch.zeros(n, 24), "mlp_out.0": torch.zeros(n, 7)}
    labels = {name: torch.arange(n) for name in ("token", "sequence", "position")}
    bucket.append(changes.pop("rows", rows), **(labels | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": {"mlp_out.0": torch.zeros(3, 7)}}, r"sites must be \['mlp_out.0', 'resid"),
        ({"token": torch.zeros(3)}, "token must be integers, got float32"),
        ({"token": torch.tensor([0, -1, 2])}, "token must be in 0 … 2"),
        ({"position": torch.arange(4)}, r"position must be \[3\], got \[4\]"),
        (
            {"rows": {"resid_post.1": torch.zeros(3, 25), "mlp_out.0": torch.zeros(3, 7)}},
            r"rows of resid_post.1 must be \[3, 24\], got \[3, 25\]",
        ),
        (
            {"rows": {"resid_post.1": torch.zeros(3, 24).int(), "mlp_out.0": torch.zeros(3, 7)}},
            "rows of resid_post.1 must be floating point, got torch.int32",
        ),
    ],
)
def test_wrong_rows_are_refused_by_name(tmp_path, changes, message):
    writer = StoreWriter.open(tmp_path, spec_of())
    with pytest.raises(ValueError, match=message), writer, writer.bucket(0) as bucket:
        append(bucket, 3, **changes)


@pytest.mark.parametrize("codec", ["exact", "float32"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nonfinite_rows_are_refused_with_sequence_and_position(tmp_path, codec, value):
    rows = {"resid_post.1": torch.ones(3, 24), "mlp_out.0": torch.ones(3, 7)}
    rows["mlp_out.0"][2, 4] = value
    match = "rows of mlp_out.0 must be finite, got NaN or Inf in sequence 8 at position 2"
    writer = StoreWriter.open(tmp_path, spec_of(codec=codec))
    with pytest.raises(ValueError, match=match), writer, writer.bucket(0) as bucket:
        append(bucket, 3, rows=rows, sequence=torch.tensor([8, 8, 8]))


def test_largest_finite_values_are_stored(tmp_path):
    rows = {"resid_post.1": torch.ones(192, 24), "mlp_out.0": torch.full((192, 7), -3.3895e38)}
    with StoreWriter.open(tmp_path, spec_of(rows=192)) as writer, writer.bucket(0) as bucket:
        append(bucket, 192, rows=rows)
    store = ActivationStore.open(tmp_path)
    assert torch.equal(store.read("mlp_out.0", 0, 192), rows["mlp_out.0"].bfloat16().float())


def test_dropped_rows_are_counted_and_leave_no_hole(tmp_path):
    spec = spec_of()
    rows = rows_of(spec)
    rows["mlp_out.0"][[3, 60, 190]] = float("nan")
    with StoreWriter.open(tmp_path, spec, drop_nonfinite=True) as writer:
        for bucket in range(writer.n_buckets):
            fill(writer, rows, bucket)
    store = ActivationStore.open(tmp_path)
    assert (store.rows, store.dropped) == (697, 3)
    dropped_at = {commit.bucket: commit.dropped_at for commit in store.commits if commit.dropped}
    assert dropped_at == {0: {0: 2, 3: 1}}
    number = numbers(store, 0, store.rows)
    assert set(range(700)) - set(number.tolist()) == {3, 60, 190}
    expected = rows["resid_post.1"].bfloat16().float()
    assert torch.equal(store.read("resid_post.1", 0, 697), expected[number])
    assert len(torch.cat([next(store.stream("mlp_out.0", 41)) for _ in range(17)])) == 697


def test_a_bucket_that_lost_all_its_rows_is_counted(tmp_path):
    spec = spec_of()
    rows = rows_of(spec)
    rows["mlp_out.0"][: spec.bucket_rows] = float("nan")
    with StoreWriter.open(tmp_path, spec, drop_nonfinite=True) as writer:
        for bucket in range(writer.n_buckets):
            fill(writer, rows, bucket)
    store = ActivationStore.open(tmp_path)
    assert store.complete
    assert store.rows == spec.rows - spec.bucket_rows
    assert store.dropped == store.dropped_at.total() == spec.bucket_rows


def test_another_spec_is_refused_naming_the_difference(tmp_path):
    make_store(tmp_path)
    with pytest.raises(ValueError, match=r"these differ: rows: 700 → 699; seed: 5 → 6; choose"):
        StoreWriter.open(tmp_path, spec_of(rows=699, seed=6))


def test_a_folder_that_holds_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(
        ValueError, match="must be empty or an activation store, but it holds thesis"
    ):
        StoreWriter.open(tmp_path, spec_of())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sites": {"a/b": 3}}, "site name must be letters"),
        ({"sites": {"a": 0}}, "width of site a must be at least 1, got 0"),
        ({"codec": "zip"}, "codec must be one of exact, fast, float32, int8, got 'zip'"),
        ({"chunk_rows": 30}, r"shard_rows must be a multiple of chunk_rows \(30\), got 64"),
        ({"shard_rows": 128}, r"bucket_rows must be a multiple of shard_rows \(128\), got 192"),
        ({"rows": 0}, "greater than 0"),
    ],
)
def test_an_impossible_spec_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        spec_of(**values)


@pytest.mark.parametrize(
    ("width", "rows", "bucket", "shard", "chunk"),
    [
        (128, 1_000_000, 65_536, 65_536, 2048),
        (2304, 4_000_000_000, 2**20, 32_768, 256),
        (16, 300, 1024, 1024, 1024),
    ],
)
def test_default_sizes(width, rows, bucket, shard, chunk):
    spec = StoreSpec(sites={"x": width}, rows=rows)
    assert (spec.bucket_rows, spec.shard_rows, spec.chunk_rows) == (bucket, shard, chunk)


def test_a_round_bucket_size_finds_divisors():
    spec = StoreSpec(sites={"x": 128}, rows=500_000, bucket_rows=100_000)
    assert (spec.chunk_rows, spec.shard_rows) == (2000, 100_000)


def test_a_store_that_another_process_begins_at_the_same_time_is_continued(
    made, tmp_path, monkeypatch
):
    from scopeworks.store.place.local import LocalFiles

    plain, late = LocalFiles.read, ["zarr.json"]

    def read(self, key, start=0, stop=None):
        if key in late:  # not there yet; written before the folder is listed
            late.remove(key)
            raise FileNotFoundError(key)
        return plain(self, key, start, stop)

    monkeypatch.setattr(LocalFiles, "read", read)
    with StoreWriter.open(made.url, made.spec) as writer:
        assert late == []
        assert writer.committed == {0, 1, 2, 3}


def test_a_root_that_another_process_wrote_just_before_stays(made, monkeypatch):
    monkeypatch.setattr(writer_module, "_begun", lambda _location: None)
    before = contents(made.url)
    with pytest.raises(ValueError, match="these differ: seed: 5 → 6"):
        StoreWriter.open(made.url, spec_of(seed=6))
    assert contents(made.url) == before
    StoreWriter.open(made.url, made.spec).close()
    assert contents(made.url) == before


def test_versions_are_the_beginners_and_not_compared(tmp_path):
    StoreWriter.open(tmp_path, spec_of(rows=576, versions={"torch": "2.11"})).close()
    with StoreWriter.open(tmp_path, spec_of(rows=900, versions={"torch": "3.0"})) as writer:
        assert (writer.spec.rows, writer.spec.versions) == (900, {"torch": "2.11"})


def test_background_sealing_gives_the_same_bytes(made, tmp_path):
    with StoreWriter.open(tmp_path / "acts", made.spec, background=True) as writer:
        for bucket in range(writer.n_buckets):
            fill(writer, made.rows, bucket)
    assert contents(tmp_path / "acts") == contents(made.url)


def test_a_failure_in_the_background_is_raised_by_close(tmp_path, monkeypatch):
    from scopeworks.store.place.local import LocalFiles

    spec = spec_of()
    writer = StoreWriter.open(tmp_path, spec, background=True)

    def full(_self, _key, _parts):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(LocalFiles, "write", full)
    fill(writer, rows_of(spec), 0)
    with pytest.raises(OSError, match="No space left"):
        writer.close()
    assert writer.committed == set()


def test_scratch_space_that_does_not_fit_is_a_clear_error(tmp_path, monkeypatch):
    def full(_descriptor, _offset, _size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    writer = StoreWriter.open(tmp_path, spec_of(), memory_bytes=0, scratch_dir=tmp_path)
    with (
        pytest.raises(
            OSError, match=r"scratch file of 14,208 bytes cannot be made in .*No space left"
        ),
        writer,
        writer.bucket(0),
    ):
        pass
