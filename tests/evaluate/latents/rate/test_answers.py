"""A rater's file: what counts, what a crash leaves, what is refused."""

import resource
from pathlib import Path

import pytest

from scopeworks.evaluate.latents.rate.answers import (
    AnswerChange,
    AnswerFile,
    check_rater,
    entries_of,
)

ITEMS = {"1", "2", "3"}


def said(item: str, **words) -> AnswerChange:
    return AnswerChange(item=item, **words)


def test_last_word_on_each_thing_counts(tmp_path: Path):
    path = tmp_path / "ada.jsonl"
    kept = AnswerFile(path, ITEMS)
    kept.add(said("1", answer="yes"))
    kept.add(said("1", note="dates"))
    kept.add(said("2", flag=True))
    kept.add(said("1", answer="no"))
    kept.add(said("3", answer="maybe"))
    kept.add(said("3", answer=None))
    again = AnswerFile(path, ITEMS).entries
    assert again == kept.entries
    assert (again["1"].answer, again["1"].note, again["1"].flag) == ("no", "dates", False)
    assert (again["2"].answer, again["2"].flag, again["3"].answer) == (None, True, None)
    assert len(path.read_text().splitlines()) == 6


def test_two_files_of_one_rater_lose_nothing(tmp_path: Path):
    path = tmp_path / "ada.jsonl"
    first, second = AnswerFile(path, ITEMS), AnswerFile(path, ITEMS)
    first.add(said("1", answer="yes"))
    second.add(said("2", answer="no"))
    first.add(said("2", note="odd"))
    entries = AnswerFile(path, ITEMS).entries
    assert (entries["1"].answer, entries["2"].answer, entries["2"].note) == ("yes", "no", "odd")


def test_half_a_line_goes_and_the_file_goes_on(tmp_path: Path, capsys):
    path = tmp_path / "ada.jsonl"
    AnswerFile(path, ITEMS).add(said("1", answer="yes"))
    whole = path.read_bytes()
    for cut in range(len(whole), len(whole) + 20):
        path.write_bytes(whole + b'{"item": "2", "answer": "maybe"}'[: cut - len(whole)])
        kept = AnswerFile(path, ITEMS)
        assert set(kept.entries) == {"1"}
        assert path.read_bytes() == whole
    assert "half a line at its end is left out" in capsys.readouterr().err
    AnswerFile(path, ITEMS).add(said("2", answer="no"))
    assert AnswerFile(path, ITEMS).entries["2"].answer == "no"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"item": "2", "ans\n', "line 2 is not valid JSON"),
        (b'{"item": "2", "answer": "perhaps"}\n', "line 2 does not hold what it must: answer"),
        (b'{"item": "9", "answer": "no"}\n', "line 2 must name a latent of the session, got 9"),
        (b"\n", "line 2 is not valid JSON"),
    ],
)
def test_other_damage_is_refused(line: bytes, message: str):
    data = b'{"item": "1", "answer": "yes"}\n' + line
    with pytest.raises(ValueError, match=message):
        entries_of(data, "ada.jsonl", ITEMS)


def test_unknown_latent_is_not_written(tmp_path: Path):
    kept = AnswerFile(tmp_path / "ada.jsonl", ITEMS)
    with pytest.raises(KeyError):
        kept.add(said("4", answer="yes"))
    assert not kept.path.exists()


def test_what_the_disk_does_not_take_changes_nothing(tmp_path: Path):
    folder = tmp_path / "gone"
    folder.mkdir()
    kept = AnswerFile(folder / "ada.jsonl", ITEMS)
    folder.rmdir()
    with pytest.raises(FileNotFoundError, match="ada"):
        kept.add(said("1", answer="yes"))
    assert kept.entries == {}


@pytest.mark.parametrize(
    ("room", "text"),
    [(9, r"ada\.jsonl could not be written: the disk is full"), (0, r"too large: '\S+ada\.jsonl'")],
)
def test_half_a_line_on_a_full_disk_is_cut_off_again(tmp_path: Path, room: int, text: str):
    kept = AnswerFile(tmp_path / "ada.jsonl", ITEMS)
    kept.add(said("1", answer="yes"))
    whole = kept.path.read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + room, before[1]))
    try:
        with pytest.raises(OSError, match=text):
            kept.add(said("2", answer="no"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert kept.path.read_bytes() == whole and set(kept.entries) == {"1"}


@pytest.mark.parametrize("name", ["ada", "Zoë-2", "a.b_c"])
def test_names_that_can_be_files(name: str):
    assert check_rater(name) == name


@pytest.mark.parametrize(
    "name", ["", "../ada", "a/b", "a\\b", ".ada", "-a", "a b", "x" * 41, "a\n"]
)
def test_names_that_cannot(name: str):
    with pytest.raises(ValueError, match=r"^must be 1 to 40 letters"):
        check_rater(name)
