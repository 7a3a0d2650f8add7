"""A place: which options it has, that nobody sees them, and what lies beside it."""

import os
from pathlib import Path

import pytest

from scopeworks.store import ActivationStore, StoreWriter, TokenStore
from scopeworks.store.place.locate import locate
from scopeworks.store.place.place import Place
from scopeworks.store.tools.copy import copy_store
from scopeworks.store.tools.verify import verify_store
from scopeworks.tests.store.making import fill, rows_of, spec_of
from scopeworks.train.saved.checkpoint import Checkpoints


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("gs://acts/run", "gs://acts/run.parts"),
        ("gs://acts/run/", "gs://acts/run.parts"),
        ("gs://acts/run[1]*?", "gs://acts/run[1]*?.parts"),
        ("gs://acts", "gs://acts/beside/parts"),
        ("s3://acts/", "s3://acts/beside/parts"),
        ("memory://", "memory:///beside/parts"),
        ("/data/run/.", "/data/run.parts"),
        ("/data/x/../run", "/data/run.parts"),
        ("file:///data/run", "/data/run.parts"),
        ("/", "/beside/parts"),
    ],
)
def test_the_place_beside_an_output(url, place):
    assert Place(url).beside(".parts") == Place(place)


@pytest.mark.parametrize("given", [5, None, ["store"]])
def test_what_is_no_path_and_no_url_is_no_place(given):
    with pytest.raises(ValueError, match=r"^url must be a path, a URL or a Place, got "):
        Place.of(given)


def test_a_path_is_a_place_as_its_text_is():
    place = Place(Path("/data/run"))  # pyright: ignore[reportArgumentType]
    assert place == Place("/data/run") and not place.is_remote


def test_the_place_beside_has_the_same_options():
    assert Place("gs://acts/run", {"anon": True}).beside(".parts").options == {"anon": True}


def test_the_place_beside_the_folder_that_one_is_in(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    assert Place(".").beside(".parts").url == str(tmp_path / "run.parts")


@pytest.mark.parametrize(
    ("url", "is_remote"),
    [("gs://b/x", True), ("memory://", True), ("file:///x", False), ("x", False), ("/a:b", False)],
)
def test_a_url_of_this_machine_is_not_remote(url, is_remote):
    assert Place(url).is_remote is is_remote


def test_options_are_in_no_text():
    place = Place("gs://acts/run", {"key": "s3cret"})
    assert place.options == {"key": "s3cret"}
    assert "s3cret" not in f"{place} {place!r} {place.beside('.parts')!r}"


@pytest.mark.parametrize("url", ["/data/run", "file:///data/run"])
def test_options_of_a_local_path_are_refused(url):
    message = f"^storage options have no effect on the local path {url}; leave out$"
    with pytest.raises(ValueError, match=message):
        Place(url, {"anon": True})


def test_options_are_given_once():
    place = Place("gs://acts/run", {"key": "s3cret"})
    assert Place.of(place) is place
    message = "^storage options of gs://acts/run must be given once, in the place$"
    with pytest.raises(ValueError, match=message):
        Place.of(place, {"anon": True})


def test_whatever_takes_a_url_takes_a_place(tmp_path: Path):
    place, other = Place(str(tmp_path / "store")), Place(str(tmp_path / "copy"))
    with StoreWriter.open(place, spec_of()) as writer:
        for bucket in range(writer.n_buckets):
            fill(writer, rows_of(spec_of()), bucket)
    assert StoreWriter.begun(place) == spec_of()
    assert copy_store(place, other) == ActivationStore.open(place).rows == spec_of().rows
    assert verify_store(other).problems == []
    tokens = Place(str(tmp_path / "tokens"))
    TokenStore.create(tokens, context=2, bos=None, eos=None, pad=None).write({})
    assert TokenStore.open(tokens).splits == {}
    assert Checkpoints(Place(str(tmp_path / "checkpoints")), keep=1).steps() == []
    assert locate(place).url == str(tmp_path / "store")


@pytest.mark.parametrize("below", ["", "/a/b"])
@pytest.mark.parametrize("kind", ["a file", "a pipe or device"])
def test_what_is_no_folder_is_no_place_for_a_store(tmp_path: Path, kind: str, below: str):
    taken = tmp_path / "taken"
    if kind == "a file":
        taken.write_text("mine")
    else:
        os.mkfifo(taken)
    place, ids = Place(f"{taken}{below}"), {"context": 2, "bos": None, "eos": None, "pad": None}
    message = f"^{taken}{below} must be a folder, got {taken}, {kind}; choose another place$"
    for use in (
        lambda: StoreWriter.begun(place),
        lambda: StoreWriter.open(place, spec_of()),
        lambda: ActivationStore.open(place),
        lambda: TokenStore.create(place, **ids),
    ):
        with pytest.raises(NotADirectoryError, match=message):
            use()
    assert kind != "a file" or taken.read_text() == "mine"
