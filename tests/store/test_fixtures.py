"""Stores, and a training run, as earlier versions wrote them: read, finished, or refused in one
line. What each is stands in fixtures/README.md."""

import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from scopeworks.store import (
    ActivationStore,
    DamagedStoreError,
    StoreSpec,
    StoreWriter,
    TokenStore,
)
from scopeworks.store.tools.verify import verify_store, withdraw_buckets
from scopeworks.tests.store.making import fill, numbers
from scopeworks.train.run.trainer import run
from scopeworks.train.sae.sae import SAE
from scopeworks.train.settings import TrainSettings

STORES = Path(__file__).parent / "fixtures" / "stores_1_0.zip"
SITES = {"resid_post.1": 6, "mlp_out.0": 4}
GENERATOR = torch.Generator().manual_seed(11)
ROWS = {
    site: torch.randn(96, width, generator=GENERATOR) * torch.logspace(-1, 1, width)
    for site, width in SITES.items()
}


@pytest.fixture
def old(tmp_path) -> Path:
    """The folder of all of them, to be changed at will."""
    with zipfile.ZipFile(STORES) as archive:
        archive.extractall(tmp_path)
    return tmp_path


def spec_of(rows: int) -> StoreSpec:
    return StoreSpec(
        sites=SITES,
        rows=rows,
        bucket_rows=16,
        chunk_rows=8,
        shard_rows=16,
        seed=5,
        provenance={"model": "tiny"},
    )


def finish(url: Path, rows: int) -> None:
    """What a harvest does: the buckets that are missing."""
    with StoreWriter.open(url, spec_of(rows)) as writer:
        for bucket in sorted(set(range(writer.n_buckets)) - writer.committed):
            fill(writer, ROWS, bucket)


def data(url: Path) -> dict[str, bytes]:
    """A store's objects but the root, which says what it has grown from."""
    files = {str(p.relative_to(url)): p.read_bytes() for p in url.rglob("*") if p.is_file()}
    return {name: content for name, content in files.items() if name != "zarr.json"}


def check_rows(url: Path, rows: int, off: float = 0.0) -> None:
    """The store holds so many rows, each that of its labels; a stream gives them too."""
    store = ActivationStore.open(url)
    assert store.rows == rows
    expected = ROWS["mlp_out.0"].bfloat16().float()[numbers(store, 0, rows)]
    found = store.read("mlp_out.0", 0, rows)
    torch.testing.assert_close(found, expected, rtol=off, atol=off)
    with store.stream("mlp_out.0", batch_rows=rows) as stream:
        assert torch.equal(next(stream).sort(dim=0).values, found.sort(dim=0).values)


@pytest.mark.parametrize(("name", "rows"), [("whole", 64), ("short", 56), ("grown", 96)])
def test_a_complete_store_is_read_verified_and_continued(old, name, rows):
    check_rows(old / name, rows)
    before = data(old / name)
    assert (verify_store(old / name).problems, verify_store(old / name).notes) == ([], [])
    finish(old / name, rows)
    assert data(old / name) == before


def test_a_store_of_int8_with_a_short_last_bucket_is_read(old):
    check_rows(old / "int8_short", 56, off=0.2)  # two values of later buckets were cut
    assert verify_store(old / "int8_short").problems == []


def test_a_store_that_was_stopped_is_finished(old):
    check_rows(old / "unfinished", 48)
    finish(old / "unfinished", 96)
    check_rows(old / "unfinished", 96)
    assert data(old / "unfinished") == data(old / "grown")


@pytest.mark.parametrize("name", ["whole", "whole_growing_root"])
def test_a_store_of_whole_buckets_grows_and_a_stopped_growth_is_finished(old, name):
    check_rows(old / name, 64)
    finish(old / name, 96)
    assert data(old / name) == data(old / "grown")
    assert verify_store(old / name).problems == []


@pytest.mark.parametrize("name", ["growing_withdrawn", "growing_shards"])
def test_a_growth_that_was_stopped_behind_its_short_bucket_is_finished(old, name):
    check_rows(old / name, 48)
    finish(old / name, 96)
    assert data(old / name) == data(old / "grown")
    assert verify_store(old / name).problems == []


@pytest.mark.parametrize("name", ["growing_root", "growing_documents", "growing_opened"])
def test_a_growth_that_was_stopped_before_its_short_bucket_is_finished_without_it(old, name):
    said = r"commit of bucket 3: rows and dropped must be 16 together, got 8; .* --withdraw"
    with pytest.raises(DamagedStoreError, match=said):
        ActivationStore.open(old / name)
    with pytest.raises(DamagedStoreError, match=said):
        finish(old / name, 96)
    report = verify_store(old / name)
    assert report.damaged == {3}
    assert re.search(said, report.problems[0])
    withdraw_buckets(old / name, report.damaged)
    check_rows(old / name, 48)
    finish(old / name, 96)
    assert data(old / name) == data(old / "grown")
    assert verify_store(old / name).problems == []


@pytest.mark.parametrize("name", ["short", "int8_short"])
def test_a_store_whose_last_bucket_is_short_does_not_grow(old, name):
    before = data(old / name)
    longer = spec_of(96).model_copy(update={"codec": {"short": "exact"}.get(name, "int8")})
    with pytest.raises(ValueError, match=r"rows of store .* must stay 56, got 96: its last bucket"):
        StoreWriter.open(old / name, longer)
    assert data(old / name) == before


def test_a_token_store_is_read(old):
    tokens = TokenStore.open(old / "tokens")
    expected = np.random.default_rng(3).integers(3, 97, (12, 8)).astype(np.uint32)
    assert np.array_equal(np.asarray(tokens.sequences("train")), expected[:9])
    assert np.array_equal(np.asarray(tokens.sequences("held_out")), expected[9:])
    assert (tokens.context, tokens.bos, tokens.eos, tokens.pad) == (8, 2, 1, 0)


def test_a_training_run_is_loaded_and_continued(old, monkeypatch):
    monkeypatch.chdir(old)
    before = SAE.load("run")
    assert before.config.d_sae == 8
    settings = TrainSettings(**json.loads(Path("run/config.json").read_text())["settings"])
    shutil.copytree("run", "begun")
    more = settings.model_copy(update={"steps": 12, "out": Path("begun")})
    run([more], resume=True)
    lines = [json.loads(line) for line in Path("begun/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines][-4:] == [9, 10, 11, 12]
    assert not torch.equal(SAE.load("begun").W_enc, before.W_enc)


def test_a_training_run_goes_on_while_its_store_grows(old, monkeypatch):
    monkeypatch.chdir(old)
    finish(old / "whole", 96)
    settings = TrainSettings(**json.loads(Path("run/config.json").read_text())["settings"])
    run([settings.model_copy(update={"steps": 12})], resume=True)
    config = json.loads(Path("run/config.json").read_text())
    assert config["sae"]["trained_rows"] == 96
