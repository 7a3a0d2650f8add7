"""The token store: round trip, laziness, completeness, refusals."""

import hashlib
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from scopeworks.store import DamagedStoreError, TokenStore

SETTINGS: dict[str, Any] = {"context": 16, "bos": 2, "eos": 1, "pad": 0}


@pytest.fixture
def splits() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "train": generator.integers(0, 2**32, (1300, 16), dtype=np.uint32),
        "held_out": generator.integers(0, 4096, (3, 16), dtype=np.int64),
    }


@pytest.fixture
def store(tmp_path, splits, monkeypatch) -> TokenStore:
    monkeypatch.setattr("scopeworks.store.tokens._CHUNK_BYTES", 1024)  # several chunks and shards
    monkeypatch.setattr("scopeworks.store.tokens._SHARD_CHUNKS", 3)
    TokenStore.create(tmp_path / "t", provenance={"text": "x"}, **SETTINGS).write(splits)
    return TokenStore.open(tmp_path / "t")


def test_what_is_written_reads_back(store, splits):
    assert store.splits == {"train": 1300, "held_out": 3}
    assert (store.context, store.bos, store.eos, store.pad) == (16, 2, 1, 0)
    assert store.provenance == {"text": "x"}
    for name, expected in splits.items():
        found = store.sequences(name)
        assert found.shape == expected.shape
        np.testing.assert_array_equal(np.asarray(found), expected)


@pytest.mark.parametrize(
    "index",
    [
        slice(5, 700),
        slice(-3, None),
        slice(40, 30),
        slice(0, 1300, 7),
        0,
        -1,
        [1299, 0, 5, 5, -2],
        np.array([], dtype=np.int64),
    ],
)
def test_indexing_is_numpys(store, splits, index):
    np.testing.assert_array_equal(store.sequences("train")[index], splits["train"][index])


def test_sequences_out_of_range_are_refused(store):
    with pytest.raises(IndexError):
        store.sequences("train")[1300]
    with pytest.raises(IndexError, match="sequence must be in 0 … 1299"):
        store.sequences("train")[[1300]]


@pytest.mark.parametrize("index", ["a", 1.5, [0.5], None, True, [True, False], (0, 1), [[0]]])
def test_what_is_no_number_of_a_sequence_is_refused(store, index):
    with pytest.raises(ValueError, match="sequences must be indexed by a whole number, a slice or"):
        store.sequences("train")[index]


def test_sequences_show_themselves_in_one_line(store):
    shown = f"StoredSequences(1,300 sequences of {store.context} tokens)"
    assert repr(store.sequences("train")) == shown


def test_a_folder_of_stores_names_what_to_open(store):
    folder = Path(store.url).parent
    message = f"no complete token store at {folder}; it holds .*: pass {store.url}"
    with pytest.raises(FileNotFoundError, match=message):
        TokenStore.open(folder)
    with pytest.raises(ValueError, match="url must be a path, a URL or a Place, got 3"):
        TokenStore.open(cast(Any, 3))


def test_zarr_reads_the_same_sequences(store, splits):
    import zarr

    group: Any = zarr.open_group(store.url, mode="r")
    np.testing.assert_array_equal(group["train"][:], splits["train"])


def test_the_checksum_is_that_of_the_tokens_in_their_order(store, splits):
    root = json.loads(Path(store.url, "zarr.json").read_text())["attributes"]["scopeworks"]
    for name, expected in splits.items():
        digest = hashlib.sha256(expected.astype("<u4").tobytes()).hexdigest()
        assert root["splits"][name]["sha256"] == digest


def test_fingerprint_depends_on_the_tokens_alone(store, splits, tmp_path):
    other = TokenStore.create(tmp_path / "b", provenance={"text": "y"}, **SETTINGS)
    other.write(dict(reversed(splits.items())))
    assert other.fingerprint == store.fingerprint
    splits["train"][1299, 15] ^= 1
    changed = TokenStore.create(tmp_path / "c", **SETTINGS)
    changed.write(splits)
    assert changed.fingerprint != store.fingerprint


def test_an_unfinished_store_does_not_exist_and_is_written_anew(tmp_path, splits):
    first = TokenStore.create(tmp_path / "t", **SETTINGS)
    with pytest.raises(ValueError, match=r"split bad must be \[n, 16\], got \[3, 15\]"):
        first.write({"bad": splits["held_out"][:, 1:]})
    with pytest.raises(ValueError, match="split bad must be integers, got float64"):
        first.write({"train": splits["train"], "bad": splits["held_out"] / 2})
    with pytest.raises(FileNotFoundError, match="no complete token store at"):
        TokenStore.open(tmp_path / "t")
    TokenStore.create(tmp_path / "t", **SETTINGS).write(splits)
    names = {path.name for path in (tmp_path / "t").iterdir()}
    assert names == {"zarr.json", "train", "held_out"}


def test_what_a_killed_writer_of_another_shape_left_is_no_part_of_the_store(
    tmp_path, splits, monkeypatch
):
    monkeypatch.setattr("scopeworks.store.tokens._CHUNK_BYTES", 1024)
    monkeypatch.setattr("scopeworks.store.tokens._SHARD_CHUNKS", 3)
    killed = TokenStore.create(tmp_path / "t", **SETTINGS)

    def kill(*_):
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"), monkeypatch.context() as patch:
        patch.setattr(TokenStore, "_remove_stale", kill)
        killed.write({**splits, "held_out.books": splits["held_out"]})
    (tmp_path / "t" / "train" / "notes.txt").write_text("somebody's")
    few = {"train": splits["train"][:200], "held_out": splits["held_out"]}
    TokenStore.create(tmp_path / "t", **SETTINGS).write(few)
    TokenStore.create(tmp_path / "clean", **SETTINGS).write(few)
    (tmp_path / "t" / "train" / "notes.txt").unlink()
    assert objects(tmp_path / "t") == objects(tmp_path / "clean")


def objects(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_a_split_whose_name_no_reader_would_take_is_refused(tmp_path, splits):
    tokens = TokenStore.create(tmp_path / "t", **SETTINGS)
    with pytest.raises(ValueError, match=r"split must be named by up to 200 letters"):
        tokens.write({"held_out." + "x" * 250: splits["held_out"]})


def test_tensors_are_written_as_arrays_are(tmp_path, splits):
    tokens = TokenStore.create(tmp_path / "t", **SETTINGS)
    tokens.write({"held_out": torch.from_numpy(splits["held_out"])})
    assert np.array_equal(tokens.sequences("held_out")[:], splits["held_out"])


def test_what_is_no_dictionary_of_arrays_is_refused(tmp_path, splits):
    tokens = TokenStore.create(tmp_path / "t", **SETTINGS)
    with pytest.raises(ValueError, match="splits must be a dictionary name -> ids, got ndarray"):
        tokens.write(splits["held_out"])
    with pytest.raises(ValueError, match=r"split train must be an array \[n, 16\], got list"):
        tokens.write({"train": [[1] * 16]})


def test_a_complete_store_is_not_overwritten(store):
    with pytest.raises(FileExistsError, match="already holds a token store"):
        TokenStore.create(store.url, **SETTINGS)


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"must be empty, but it holds photo.jpg"):
        TokenStore.create(tmp_path, **SETTINGS)


def test_an_unknown_split_is_refused(store):
    with pytest.raises(ValueError, match=r"split must be one of .*, got 'test'"):
        store.sequences("test")


def test_a_damaged_chunk_is_named(store):
    path = Path(store.url, "train/c/1/0")
    data = bytearray(path.read_bytes())
    data[3] ^= 8
    path.write_bytes(data)
    with pytest.raises(DamagedStoreError, match=r"train: shard 1 \(.*\): chunk 0 is damaged"):
        np.asarray(store.sequences("train"))
