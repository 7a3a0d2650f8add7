"""Stores of the same rows read as one: equal to one store of all sites, bit for bit, or refused."""

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scopeworks.store import ActivationStore, StoreSpec, StoreWriter
from scopeworks.store.place.local import LocalFiles
from scopeworks.store.place.place import Place
from scopeworks.store.read.array_reader import ArrayReader
from scopeworks.store.read.store_identity import as_begun, identity
from scopeworks.store.tools.copy import copy_store
from scopeworks.store.tools.statistics import site_statistics
from scopeworks.store.which_rows import rows_key
from scopeworks.tests.store.making import CHUNK, SHARD, SITES, fill, rows_of, spec_of
from scopeworks.train.settings import TrainSettings

A, B = "resid_post.1", "mlp_out.0"
SAID = {
    "model": "tiny",
    "model_fingerprint": "aa",
    "tokens": "bb",
    "split": "train",
    "masked_token_ids": [0, 1],
    "dtype": "float32",
}
ROWS = rows_of(spec_of(rows=1100))


def write(
    url: Path | str, sites: Collection[str], buckets: Collection[int] | None = None, **changes: Any
) -> str:
    """Writes a store of some sites of the same rows, or some of its buckets."""
    widths = {site: SITES[site] for site in sites}
    spec = spec_of(**({"sites": widths, "provenance": SAID} | changes))
    with StoreWriter.open(url, spec) as writer:
        for bucket in range(writer.n_buckets) if buckets is None else buckets:
            fill(writer, {site: ROWS[site] for site in sites}, bucket)
    return str(url)


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The same rows: both sites in one store, each in its own, and B cut and coded in other ways
    (chunks that hold one of the others' whole, and chunks that do not)."""
    folder = tmp_path_factory.mktemp("joined")
    return {
        "both": write(folder / "both", [A, B]),
        "a": write(folder / "a", [A]),
        "b": write(folder / "b", [B]),
        "b nested": write(folder / "nested", [B], chunk_rows=64, shard_rows=192),
        "b across": write(folder / "across", [B], chunk_rows=48, shard_rows=96, codec="float32"),
    }


OTHER_B = ["b", "b nested", "b across"]


@pytest.mark.parametrize("other", OTHER_B)
def test_a_joined_store_shows_what_one_store_of_all_sites_shows(urls, other):
    one = ActivationStore.open(urls["both"])
    joined = ActivationStore.open((urls["a"], Place(urls[other])))
    assert (joined.sites, joined.rows, joined.complete) == (one.sites, one.rows, True)
    assert joined.url == " + ".join(sorted((urls["a"], urls[other]), key=lambda u: u == urls["a"]))
    assert joined.spec.chunk_rows == CHUNK and joined.notes == []
    for found, expected in zip(joined.labels(100, 650), one.labels(100, 650), strict=True):
        assert (found == expected).all()
    sites = [A] if other == "b across" else [A, B]  # float32 keeps what bfloat16 rounds
    for site in sites:
        assert torch.equal(joined.read(site, 100, 650), one.read(site, 100, 650))
        assert joined.normaliser(site) == one.normaliser(site)
        assert torch.equal(joined.mean(site), one.mean(site))
        assert site_statistics(joined, site, 64).line() == site_statistics(one, site, 64).line()


@settings(max_examples=40, deadline=None)
@given(
    other=st.sampled_from(OTHER_B[:2]),
    batch_rows=st.integers(1, 300),
    seed=st.integers(0, 2**63 - 1),
    interleave=st.integers(1, 4),
    before=st.integers(0, 6),
    world=st.integers(1, 2),
    threads=st.sampled_from([1, 3, 16]),
)
def test_its_stream_equals_the_one_stores_also_resumed(
    urls, other, batch_rows, seed, interleave, before, world, threads
):
    one = ActivationStore.open(urls["both"])
    joined = ActivationStore.open([urls[other], urls["a"]])
    options: dict[str, Any] = {"seed": seed, "interleave": interleave, "world": world}
    with one.stream([A, B], batch_rows, **options) as stream:
        whole = [{site: x.clone() for site, x in next(stream).items()} for _ in range(before + 3)]
    with joined.stream([A, B], batch_rows, prefetch=1, **options) as first:
        for _ in range(before):
            next(first)
        state = first.state()
    rows = joined.rows_of(state, batch_rows, world=world)
    with joined.stream([A, B], batch_rows, state=state, threads=threads, **options) as second:
        for expected in whole[before:]:
            batch = next(second)
            assert all(torch.equal(batch[site], expected[site]) for site in (A, B))
    assert torch.equal(whole[before][A], one.read(A, 0, one.rows)[torch.from_numpy(rows)])


def test_chunks_that_lie_across_the_orders_give_the_same_rows(urls):
    joined = ActivationStore.open([urls["a"], urls["b across"]])
    alone = ActivationStore.open(urls["b across"])
    with joined.stream(B, 100, seed=3) as stream:
        for _ in range(20):
            rows = torch.from_numpy(joined.rows_of(stream.state(), 100))
            assert torch.equal(next(stream), alone.read(B, 0, 700)[rows])


def test_default_sizes_give_the_order_of_one_store_with_all_sites(tmp_path):
    """Chunks follow from the widest site, so those of the narrow one's store are larger."""
    widths = {"wide.1": 1300, "narrow.1": 7}
    x = torch.randn(2048, 1300, generator=torch.Generator().manual_seed(2))
    rows = {"wide.1": x, "narrow.1": x[:, :7]}
    for name, sites in {"both": list(widths), "wide": ["wide.1"], "narrow": ["narrow.1"]}.items():
        spec = StoreSpec(sites={site: widths[site] for site in sites}, rows=2048, seed=2)
        with StoreWriter.open(tmp_path / name, spec) as writer:
            for bucket in range(writer.n_buckets):
                fill(writer, {site: rows[site] for site in sites}, bucket, step=1024)
    one = ActivationStore.open(tmp_path / "both")
    joined = ActivationStore.open([tmp_path / "wide", tmp_path / "narrow"])
    assert joined.layout("narrow.1").chunk_rows == 2 * joined.layout("wide.1").chunk_rows == 1024
    with one.stream(list(widths), 300) as expected, joined.stream(list(widths), 300) as found:
        for _ in range(8):
            batch, other = next(expected), next(found)
            assert all(torch.equal(batch[site], other[site]) for site in widths)


def test_a_run_is_of_the_same_rows_whether_they_are_in_one_store_or_two(urls):
    one = ActivationStore.open(urls["both"])
    for pair in ([urls["a"], urls["b"]], [urls["b"], urls["a"]]):
        joined = ActivationStore.open(pair)
        assert identity(joined) == identity(one)
        assert as_begun(one, identity(joined), "checkpoint 4").rows == 700


def test_a_run_goes_on_when_joined_stores_have_grown(tmp_path):
    pair = [write(tmp_path / "a", [A], rows=576), write(tmp_path / "b", [B], rows=576)]
    store = ActivationStore.open(pair)
    record = identity(store)
    with store.stream([A, B], 100, seed=3) as stream:
        next(stream)
        state = stream.state()
        expected = {site: x.clone() for site, x in next(stream).items()}
    write(tmp_path / "a", [A], rows=1100, buckets=range(3, 6))
    write(tmp_path / "b", [B], rows=1100, buckets=[4, 3])
    grown = ActivationStore.open(pair)
    assert (grown.rows, grown.complete) == (960, False)
    begun = as_begun(grown, record, "checkpoint 4")
    assert identity(begun) == record
    with begun.stream([A, B], 100, seed=3, state=state) as stream:
        assert all(torch.equal(x, expected[site]) for site, x in next(stream).items())


def test_buckets_that_one_store_lacks_are_not_shown(tmp_path):
    a, b = write(tmp_path / "a", [A], [0, 2, 3]), write(tmp_path / "b", [B], [0, 1, 3])
    joined = ActivationStore.open([a, b])
    assert [commit.bucket for commit in joined.commits] == [0, 3]
    assert (joined.rows, joined.spec.rows, joined.complete) == (192 + 124, 700, False)
    of_a = ActivationStore.open(a).only([0, 3])
    assert torch.equal(joined.read(A, 0, 316), of_a.read(A, 0, 316))
    assert joined.normaliser(A) == of_a.normaliser(A)
    assert joined.only([3]).rows == 124


def test_a_view_is_not_taken_for_its_store(tmp_path):
    """Its URL would bring back the buckets that it leaves out."""
    whole = ActivationStore.open(write(tmp_path / "a", [A], [0, 2, 3]))
    view, text = whole.only([0, 3]), "store must be whole to be named in settings, got a view of 2"
    assert view.rows < whole.rows and whole.as_setting() == str(tmp_path / "a")
    with pytest.raises(ValueError, match=text):
        ActivationStore.open([view, write(tmp_path / "b", [B], [0, 3])])
    with pytest.raises(ValueError, match=text):
        TrainSettings(store=view, site=A, width=8, out="sae")  # pyright: ignore[reportArgumentType]


def test_buckets_that_are_not_committed_are_refused(urls):
    store: Any = ActivationStore.open(urls["both"])
    n = len(store.commits)
    assert store.only(0).rows == store.only([0]).rows == store.commits[0].rows
    for wrong in ([99], [0, 99], []):
        message = f"buckets must be some of the {n} committed ones, of numbers 0 … {n - 1}, got "
        with pytest.raises(ValueError, match=message):
            store.only(wrong)
    for wrong in (None, "0", [1.0], [True]):
        with pytest.raises(ValueError, match="buckets must be a whole number from 0 on, got "):
            store.only(wrong)


def test_a_folder_of_stores_names_what_to_open(urls):
    inside = Path(urls["both"])
    message = f"no activation store at {inside.parent}; it holds .*: pass {inside.parent}/"
    with pytest.raises(FileNotFoundError, match=message):
        ActivationStore.open(inside.parent)


@pytest.mark.parametrize("rows", [(0.0, 10), ("a", 10), (0, None), (-1, 10)])
def test_what_are_no_row_numbers_are_refused(urls, rows):
    store: Any = ActivationStore.open(urls["both"])
    for read in (lambda *of: store.read(A, *of), store.labels):
        with pytest.raises(ValueError, match=r"st(art|op) must be a whole number from 0 on, got "):
            read(*rows)


def test_a_store_that_has_just_begun_has_no_rows_yet(tmp_path):
    joined = ActivationStore.open([write(tmp_path / "a", [A]), write(tmp_path / "b", [B], [])])
    assert joined.rows == 0
    with pytest.raises(ValueError, match=r"store .*/b \+ .*/a has no committed rows yet"):
        joined.normaliser(A)


def test_a_longer_store_gives_the_whole_buckets_of_the_shorter(tmp_path):
    a, b = write(tmp_path / "a", [A]), write(tmp_path / "b", [B], rows=1100)
    joined = ActivationStore.open([a, b])
    assert (joined.rows, joined.spec.rows, joined.complete) == (576, 576, True)
    short = write(tmp_path / "c", [A], rows=100)
    with pytest.raises(ValueError, match=r"store .*/c must hold at least one whole bucket of 192"):
        ActivationStore.open([b, short])


def test_a_site_of_equal_bytes_may_be_in_both(urls):
    joined = ActivationStore.open([urls["both"], urls["a"], urls["a"]])
    assert joined.sites == SITES
    assert identity(joined) == identity(ActivationStore.open(urls["both"]))


def test_a_site_of_other_bytes_is_refused_with_the_store_to_leave_out(urls, tmp_path):
    with pytest.raises(ValueError, match=rf"site {B} must be in one .*leave out store .*/nested$"):
        ActivationStore.open([urls["both"], urls["b nested"]])
    other = spec_of(sites={A: 24, "x.1": 3}, provenance=SAID)
    rows = {A: ROWS[A] + 1, "x.1": ROWS[B][:, :3]}
    with StoreWriter.open(tmp_path / "x", other) as writer:
        for bucket in range(4):
            fill(writer, rows, bucket)
    with pytest.raises(ValueError, match=rf"site {A} must .*; leave out one of them$"):
        ActivationStore.open([urls["both"], tmp_path / "x"])
    begun = [tmp_path / name for name in ("narrow", "wide")]
    for url, width in zip(begun, (7, 8), strict=True):
        StoreWriter.open(url, spec_of(sites={B: width}, provenance=SAID)).close()
    with pytest.raises(ValueError, match=rf"site {B} must be in one of the stores"):
        ActivationStore.open(begun)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 6}, "seed: 5 → 6"),
        ({"bucket_rows": 384, "shard_rows": 64}, "bucket_rows: 192 → 384"),
        ({"provenance": SAID | {"tokens": "cc"}}, "tokens: 'bb' → 'cc'"),
        ({"provenance": SAID | {"masked_token_ids": [0]}}, r"masked_token_ids: \[0, 1\] → \[0\]"),
        ({"provenance": SAID | {"model_fingerprint": "x"}}, "model_fingerprint: 'aa' → 'x'"),
        ({"provenance": SAID | {"split": "held_out"}}, "split: 'train' → 'held_out'"),
    ],
)
def test_stores_of_other_rows_are_refused_by_name(urls, tmp_path, changes, said):
    other = write(tmp_path / "a", [A], [], **changes)
    pattern = rf"store {other} must hold the rows of store .*/b to be .*{said}; leave it out, or"
    with pytest.raises(ValueError, match=pattern):
        ActivationStore.open([urls["b"], other])


def test_other_computing_is_joined_and_noted(urls, tmp_path):
    said = SAID | {"dtype": "bfloat16", "model": "/m"}
    other = write(tmp_path / "a", [A], provenance=said, versions={"torch": "1"})
    b = write(tmp_path / "b", [B], versions={"torch": "2"})
    assert "torch" not in ActivationStore.open([urls["b"], other]).notes[0]
    joined = ActivationStore.open([other, b])
    assert joined.rows == 700
    (note,) = joined.notes
    assert f"stores {b} and {other} were computed differently" in note
    assert "(dtype: 'float32' → 'bfloat16'; torch: '2' → '1')" in note


def relabelled(url: Path, spec: StoreSpec, change: dict[str, int], drop: int = 0) -> str:
    """A store of site B of which one row of bucket 2 has another label, or one is dropped."""
    with StoreWriter.open(url, spec, drop_nonfinite=True) as writer:
        for bucket in range(writer.n_buckets):
            start, stop = writer.bucket_range(bucket)
            number = torch.arange(start, stop)
            labels = {"token": number % 97, "sequence": number // 10, "position": number % 10}
            x = ROWS[B][start:stop].clone()
            if bucket == 2:
                for name, row in change.items():
                    labels[name][row] += 1
                x[:drop] = float("nan")
            with writer.bucket(bucket) as opened:
                opened.append({B: x}, **labels)
    return str(url)


@pytest.mark.parametrize("sizes", [{}, {"chunk_rows": 48, "shard_rows": 96}], ids=["cut", "other"])
@pytest.mark.parametrize("name", ["token", "sequence", "position"])
def test_one_label_that_differs_is_found(urls, tmp_path, name, sizes):
    spec = spec_of(sites={B: 7}, provenance=SAID, **sizes)
    other = relabelled(tmp_path / "x", spec, {name: 77})
    pattern = rf"bucket 2 of stores .*/a and {other} must be of the same rows .*got {name} \d+ and"
    with pytest.raises(ValueError, match=pattern):
        ActivationStore.open([urls["a"], other])


def test_a_row_that_is_dropped_in_one_is_found(urls, tmp_path):
    other = relabelled(tmp_path / "x", spec_of(sites={B: 7}, provenance=SAID), {}, drop=1)
    with pytest.raises(ValueError, match=r"bucket 2 of stores .*, got 192 and 191 rows; leave one"):
        ActivationStore.open([urls["a"], other])


def test_equal_labels_cut_alike_are_not_read(urls, monkeypatch):
    monkeypatch.setattr(ArrayReader, "read_rows", None)
    assert ActivationStore.open([urls["a"], urls["b"]]).rows == 700
    with pytest.raises(TypeError):
        ActivationStore.open([urls["a"], urls["b nested"]])


def test_a_copy_cut_like_the_other_store_is_compared_without_reading(urls, tmp_path, monkeypatch):
    copy_store(urls["b across"], tmp_path / "b", chunk_rows=CHUNK, shard_rows=SHARD)
    monkeypatch.setattr(ArrayReader, "read_rows", None)
    assert ActivationStore.open([urls["a"], tmp_path / "b"]).rows == 700


def test_stores_of_equal_keys_are_joined(urls):
    a, b = (ActivationStore.open(urls[name]) for name in ("a", "b across"))
    assert rows_key(a.spec) == rows_key(b.spec)
    assert ActivationStore.open([a.url, b.url]).rows == a.rows


def test_a_missing_store_is_named(urls, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no activation store at {tmp_path}/none"):
        ActivationStore.open([urls["a"], tmp_path / "none"])
    with pytest.raises(ValueError, match="url must name at least one activation store"):
        ActivationStore.open([])


@pytest.mark.parametrize("given", [5, None, [None]])
def test_what_is_no_place_is_refused_in_one_line(given):
    with pytest.raises(ValueError, match=r"^url must be a path, a URL or a Place, got (5|None)$"):
        ActivationStore.open(given)


def test_open_stores_are_taken_beside_urls(urls):
    a = ActivationStore.open(urls["a"])
    joined = ActivationStore.open([a, urls["b"]])
    assert set(joined.sites) == {A, B}
    assert ActivationStore.open(joined).sites == joined.sites
    assert ActivationStore.open(a).sites == a.sites


def test_options_and_cache_are_for_the_remote_ones(urls, tmp_path, monkeypatch):
    name = f"memory://{tmp_path.name}-joined"
    write(name, [B])
    folder = tmp_path / "cache"
    joined = ActivationStore.open(
        [urls["a"], name], {"skip_instance_cache": True}, cache_dir=folder, cache_bytes=10**6
    )
    expected = joined.read(B, 0, 700)
    assert torch.equal(joined.read(A, 0, 700), ActivationStore.open(urls["a"]).read(A, 0, 700))
    assert len(list(folder.iterdir())) == 1
    again = ActivationStore.open([name, urls["a"]], cache_dir=folder)
    monkeypatch.setattr("scopeworks.store.place.remote.RemoteObjects.read_into", None)
    assert torch.equal(again.read(B, 0, 700), expected)
    with pytest.raises(ValueError, match="storage options have no effect on the local path"):
        ActivationStore.open([urls["a"], urls["b"]], {"token": "anon"})


def test_two_remote_stores_share_the_caches_bound(tmp_path):
    names = [f"memory://{tmp_path.name}-{site}" for site in (A, B)]
    for name, site in zip(names, (A, B), strict=True):
        write(name, [site])
    joined = ActivationStore.open(names, cache_dir=tmp_path, cache_bytes=8000)
    for site in (A, B):
        joined.read(site, 0, 700)
    for folder in tmp_path.iterdir():
        assert 0 < sum(path.stat().st_size for path in folder.iterdir()) <= 4000


def test_opened_stores_cost_no_further_reads_of_their_commits(urls, tmp_path, monkeypatch):
    joined = ActivationStore.open([urls["a"], urls["b"]])
    monkeypatch.setattr(LocalFiles, "read", None)
    assert joined.only([0, 1]).read(B, 0, 384).shape == (384, 7)
    shutil.rmtree(tmp_path)
