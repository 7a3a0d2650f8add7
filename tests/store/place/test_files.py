from pathlib import Path

import pytest

from scopeworks.store.place.files import (
    check_can_be_written,
    leftovers,
    write_file,
    write_folder,
    write_json,
)


def test_a_file_replaces_what_was_there(tmp_path: Path) -> None:
    write_file(tmp_path / "a" / "x.json", b"old and longer")
    write_file(tmp_path / "a" / "x.json", [b"n", b"ew"])
    assert (tmp_path / "a" / "x.json").read_bytes() == b"new"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x.json"]


def test_what_a_killed_write_left_goes_with_the_next_one(tmp_path: Path) -> None:
    (tmp_path / ".x.json.0123456789ab.partial").write_bytes(b"half")
    (tmp_path / ".y.json.0123456789ab.partial").write_bytes(b"another file's")
    write_json(tmp_path / "x.json", {"a": 1})
    assert [path.name for path in leftovers(tmp_path)] == [".y.json.0123456789ab.partial"]


def test_not_a_number_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert (tmp_path / "x.json").read_text() == '{\n  "a": 1\n}\n'


def test_a_folder_that_failed_half_way_has_not_its_last_file(tmp_path: Path) -> None:
    def failing():
        yield b"half"
        raise OSError("no room")

    write_folder(tmp_path, {"weights": [b"1"]}, ("config", b"old"))
    with pytest.raises(OSError, match="no room"):
        write_folder(tmp_path, {"weights": failing()}, ("config", b"new"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["weights"]
    write_folder(tmp_path, {"weights": [b"2"]}, ("config", b"new"))
    assert (tmp_path / "weights").read_bytes() + (tmp_path / "config").read_bytes() == b"2new"


def test_a_place_that_takes_no_file_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    check_can_be_written(tmp_path / "new" / "deep" / "x.json", "out")
    assert not (tmp_path / "new").exists()
    with pytest.raises(IsADirectoryError, match="out must be a file, got the folder"):
        check_can_be_written(tmp_path, "out")
    with pytest.raises(OSError, match="must be a file, got /dev/null, a pipe or device"):
        check_can_be_written(Path("/dev/null"), "out")
    with pytest.raises(NotADirectoryError, match="file is a file"):
        check_can_be_written(tmp_path / "file" / "x" / "y.json", "out")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(PermissionError, match="out must be in a folder that can be written"):
        check_can_be_written(tmp_path / "y.json", "out")
