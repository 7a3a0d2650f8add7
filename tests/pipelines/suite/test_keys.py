"""Content keys: what changes one and what does not; files are read once."""

import pytest

from scopeworks.harvest.text.text_file import TextFile, look_at
from scopeworks.pipelines.suite import keys
from scopeworks.pipelines.suite.keys import Digests, key


def test_a_key_follows_from_step_version_settings_and_inputs():
    base = key("a", 1, {"x": 1, "y": [2]}, "i", "j")
    assert base == key("a", 1, {"y": [2], "x": 1}, "i", "j") and len(base) == 16
    others = [
        key("b", 1, {"x": 1, "y": [2]}, "i", "j"),
        key("a", 2, {"x": 1, "y": [2]}, "i", "j"),
        key("a", 1, {"x": 1, "y": [3]}, "i", "j"),
        key("a", 1, {"x": 1, "y": [2]}, "j", "i"),
    ]
    assert len({base, *others}) == 5


def test_files_are_read_once_and_again_when_they_change(tmp_path, monkeypatch):
    reads = []
    real = keys.open_raw
    monkeypatch.setattr(keys, "open_raw", lambda path, s=None: reads.append(path) or real(path, s))
    file, memory = tmp_path / "a.txt", tmp_path / "digests.json"
    file.write_text("one")
    first = Digests(memory).of([look_at(str(file))])
    assert Digests(memory).of([look_at(str(file))]) == first and len(reads) == 1
    file.write_text("two")
    second = Digests(memory).of([look_at(str(file))])
    assert second != first and len(reads) == 2
    copy = tmp_path / "b.txt"
    copy.write_text("one")
    assert Digests(memory).of([look_at(str(copy))]) == first


def test_a_damaged_memory_is_an_empty_one(tmp_path):
    file, memory = tmp_path / "a.txt", tmp_path / "digests.json"
    file.write_text("one")
    whole = Digests(memory).of([look_at(str(file))])
    for text in ("", "[]", '{"a": 1}'):
        memory.write_text(text)
        assert Digests(memory).of([look_at(str(file))]) == whole


def test_a_file_that_tells_no_state_is_read_every_time(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("one")
    digests = Digests(tmp_path / "digests.json")
    before = digests.of([TextFile(str(file), 3, "")])
    file.write_text("two")
    assert digests.of([TextFile(str(file), 3, "")]) != before


def test_streams_are_known_by_their_names(tmp_path):
    assert Digests(tmp_path / "d.json").of([TextFile("hf:some/text")]) == ["hf:some/text"]


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        Digests(tmp_path / "d.json").of([TextFile(str(tmp_path / "none"), 1, "x")])
