"""Files beside an output: their places, and that a name is never a pattern."""

import fsspec
import pytest

from scopeworks.store.place.beside import beside, write_beside


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
    assert beside(url, ".parts") == place


def test_the_place_beside_the_folder_that_one_is_in(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    assert beside(".", ".parts") == str(tmp_path / "run.parts")


@pytest.mark.parametrize("place", ["local", "memory"])
def test_a_name_is_no_pattern_when_a_file_is_written_beside(place, tmp_path):
    folder = str(tmp_path) if place == "local" else f"memory://{tmp_path.name}"
    files = fsspec.url_to_fs(folder)[0]
    for name in ("tok1", "tok[12]", "tok*"):
        write_beside(f"{folder}/{name}", ".json", name.encode())
        write_beside(f"{folder}/{name}", ".json", name.encode())
    found = {name.rsplit("/", 1)[1]: files.cat_file(name) for name in files.find(folder)}
    assert found == {"tok1.json": b"tok1", "tok[12].json": b"tok[12]", "tok*.json": b"tok*"}


def test_what_a_killed_write_beside_left_is_swept(tmp_path):
    (tmp_path / ".run.json.0123456789ab.partial").write_bytes(b"half")
    write_beside(tmp_path / "run", ".json", b"{}")
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
