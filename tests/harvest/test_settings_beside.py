"""The record beside an output: where it is, and that a name is never a pattern."""

import fsspec
import pytest

from scopeworks.harvest.settings import HarvestSettings
from scopeworks.harvest.settings_beside import write_settings
from scopeworks.settings import dump
from scopeworks.store.place.place import Place


def settings(store: str) -> HarvestSettings:
    return HarvestSettings(model="m", tokens="t", store=store, site=["resid_post.0"])


@pytest.mark.parametrize("place", ["local", "memory"])
def test_a_name_is_no_pattern_when_a_file_is_written_beside(place, tmp_path):
    folder = str(tmp_path) if place == "local" else f"memory://{tmp_path.name}"
    files = fsspec.url_to_fs(folder)[0]
    stores = [f"{folder}/{name}" for name in ("tok1", "tok[12]", "tok*")]
    for store in [*stores, *stores]:
        write_settings(Place(store), "harvest", settings(store))
    found = {name.rsplit("/", 1)[1]: files.cat_file(name) for name in files.find(folder)}
    assert found == {
        f"{store.rsplit('/', 1)[1]}.harvest.json": dump(settings(store)).encode()
        for store in stores
    }


def test_what_a_killed_write_beside_left_is_swept(tmp_path):
    (tmp_path / ".run.harvest.json.0123456789ab.partial").write_bytes(b"half")
    write_settings(Place(str(tmp_path / "run")), "harvest", settings("run"))
    assert [path.name for path in tmp_path.iterdir()] == ["run.harvest.json"]
