"""A study's files: all of them or none, the same bytes each time."""

import json

import pytest

from scopeworks.evaluate.page.studies import read_study
from scopeworks.evaluate.saved.study_file import read_points, read_reading, readings_in
from scopeworks.evaluate.study.study import LackError, Plot, Point, Reading, Study
from scopeworks.evaluate.study.write import find, points_csv, write_finding
from scopeworks.tests.evaluate.studies.documents import evaluation, sae


def draw_line(axes) -> None:
    """A plot."""
    axes.plot([1])


def study_of(draw=draw_line) -> Study:
    """A study of one point."""
    return Study(
        name="one",
        figures=("99",),
        title="Is one above zero?",
        claim="One is above zero.",
        minutes=1,
        variants=lambda _scene: [],
        points=lambda _documents: [Point({"site": "mlp_out.1", "l0": 0.3}, 1.0, None, 2.0, 3)],
        read=lambda _points: Reading("holds", "One is above zero.", "counting", {"one": 1}),
        plots=lambda _points: [Plot("points", "One point.", draw)],
    )


DOCUMENTS = {"a": [evaluation(sae())]}


def test_files_hold_what_was_found_and_no_place(tmp_path):
    folder = tmp_path / "studies" / "one"
    write_finding(folder, find(study_of(), DOCUMENTS))
    assert sorted(path.name for path in folder.iterdir()) == [
        *("points.csv", "points.png", "points.svg", "reading.json")
    ]
    reading = read_reading(folder)
    assert (reading.verdict, reading.model) == ("holds", "tiny")
    assert reading.text == "128 held-out sequences of 256 tokens"
    assert str(tmp_path) not in (folder / "reading.json").read_text()
    assert list(readings_in(tmp_path)) == [folder]
    row = {"site": "mlp_out.1", "l0": "0.3", "value": "1", "low": "", "high": "2", "n": "3"}
    assert read_points(folder) == [row]


def test_the_same_documents_give_the_same_bytes(tmp_path):
    for name in "ab":
        write_finding(tmp_path / name, find(study_of(), DOCUMENTS))
    a, b = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in "ab")
    assert a == b


def test_a_plot_that_fails_leaves_the_old_files(tmp_path):
    write_finding(tmp_path / "one", find(study_of(), DOCUMENTS))
    before = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}

    def fail(_axes):
        raise ValueError("no such colour")

    with pytest.raises(ValueError, match="no such colour"):
        write_finding(tmp_path / "one", find(study_of(fail), DOCUMENTS))
    assert {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()} == before


def test_figures_of_an_earlier_run_go(tmp_path):
    tmp_path.joinpath("old.svg").write_bytes(b"<svg/>")
    write_finding(tmp_path, find(study_of(), DOCUMENTS))
    assert not tmp_path.joinpath("old.svg").exists()


def test_points_of_other_columns_share_one_table():
    text = points_csv([Point({"a": 1}, 2.0), Point({"b": "x, y"}, None, n=4)]).decode()
    assert text == 'a,b,value,low,high,n\n1,,2,,,\n,"x, y",,,,4\n'


def test_a_damaged_reading_is_refused_by_name(tmp_path):
    write_finding(tmp_path / "one", find(study_of(), DOCUMENTS))
    path = tmp_path / "one" / "reading.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"verdict": "maybe"}))
    with pytest.raises(ValueError, match=r"one/reading.json does not hold what it must: verdict"):
        read_reading(tmp_path / "one")
    with pytest.raises(FileNotFoundError, match=r"study .*two does not exist; run it"):
        read_reading(tmp_path / "two")


def test_a_page_can_show_it(tmp_path):
    write_finding(tmp_path, find(study_of(), DOCUMENTS))
    found = read_study(tmp_path)
    assert found.reading.sentence == "One is above zero." and len(found.pictures) == 1


def test_what_a_study_lacks_stops_it_before_its_files():
    def lack(_documents):
        raise LackError("study one must have SAEs; make them: scopeworks sweep")

    study = study_of()
    object.__setattr__(study, "points", lack)
    with pytest.raises(LackError, match="make them: scopeworks sweep"):
        find(study, DOCUMENTS)
