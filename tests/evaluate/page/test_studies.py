"""A study's folder is checked as any document of others, and shown as it says."""

import json
import re

import pytest
from typer.testing import CliRunner

from scopeworks.evaluate.cli import app
from scopeworks.evaluate.page.report import write_report
from scopeworks.evaluate.page.studies import counted, read_study, section
from scopeworks.tests.evaluate.page.study_folder import SIGNS, write_study

HOSTILE = "</p><script>alert(1)</script>\"'&"


@pytest.mark.parametrize("verdict", SIGNS)
def test_a_verdict_is_a_word_with_a_sign(tmp_path, verdict):
    shown = section([read_study(write_study(tmp_path / "width", verdict=verdict))])
    assert f">{SIGNS[verdict]}</span> Wider is better." in shown
    assert 'id="study-width"' in shown
    assert "Claim: At equal L0 a wider SAE costs less. In the report: figure 6." in shown
    assert shown.count("<svg ") == 1 and "Δ loss against width; bars are intervals." in shown
    assert "[-0.0123456, -0.02, -0.004]" in shown


def test_numbers_are_sorted_by_value_and_what_is_missing_has_none(tmp_path):
    numbers = {"a": 10, "b": 9.5, "c": [-0.5, -1, 0], "d": None, "e": {"x": 1}, "f": True}
    shown = section([read_study(write_study(tmp_path / "width", numbers=numbers))])
    cells = dict(re.findall(r'<th scope="row" class=k>(\w)</th><td class=k([^>]*)>', shown))
    assert cells == {
        "a": ' data-v="10.0"',
        "b": ' data-v="9.5"',
        "c": ' data-v="-0.5"',
        "d": "",
        "e": "",
        "f": "",
    }
    assert "<td class=k>–</td>" in shown


def test_several_studies_have_a_table_and_are_counted(tmp_path):
    studies = [
        read_study(write_study(tmp_path / name, verdict=verdict))
        for name, verdict in (("a", "holds"), ("b", "holds"), ("c", "cannot be told"))
    ]
    assert counted(studies) == "3 studies of the report's claims: 2 hold, 1 cannot be told."
    assert counted(studies[:1]) == "1 study of the report's claims: 1 holds."
    assert section(studies).count("<tr>") == 1 + 3 + 3 * (1 + 3)
    assert section([]) == ""


def test_everything_a_study_says_is_escaped(tmp_path):
    said = dict.fromkeys(("title", "claim", "sentence", "test"), HOSTILE)
    folder = write_study(tmp_path / "x", **said, numbers={HOSTILE: [HOSTILE]}, figures=[HOSTILE])
    reading = json.loads((folder / "reading.json").read_text())
    reading["plots"][0]["caption"] = HOSTILE
    (folder / "reading.json").write_text(json.dumps(reading))
    shown = section([read_study(folder)])
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;") >= 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verdict": "maybe"}, "verdict: input should be 'holds'"),
        ({"study": "Width <b>"}, "study: string should match pattern"),
        ({"sentence": "x" * 4001}, "sentence: string should have at most 4000"),
        ({"figures": 6}, "figures: input should be a valid"),
        ({"numbers": None}, "numbers: input should be an object"),
    ],
)
def test_a_reading_of_another_shape_is_one_line(tmp_path, changes, message):
    folder = write_study(tmp_path / "width", **changes)
    with pytest.raises(ValueError, match=message) as caught:
        read_study(folder)
    assert str(folder / "reading.json") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_plot_that_climbs_or_is_not_there_is_refused(tmp_path):
    folder = write_study(tmp_path / "width")
    (folder / "delta_loss.svg").unlink()
    with pytest.raises(FileNotFoundError, match=r"names the plot delta_loss, but not .*\.svg"):
        read_study(folder)
    reading = json.loads((folder / "reading.json").read_text())
    reading["plots"][0]["name"] = "../../secret"
    (folder / "reading.json").write_text(json.dumps(reading))
    with pytest.raises(ValueError, match="name: string should match pattern"):
        read_study(folder)
    with pytest.raises(FileNotFoundError, match=r"run it: scopeworks study"):
        read_study(tmp_path)


def test_the_command_takes_studies_each_once(tmp_path, evaluation):
    path = tmp_path / "e.json"
    path.write_text(json.dumps(evaluation))
    later, first = write_study(tmp_path / "a", figures=["10", "12"]), write_study(tmp_path / "b")
    last = write_study(tmp_path / "c", figures=["Section 3"])
    flags = ["--evaluation", path, "--out", tmp_path]
    flags += [flag for study in (last, later, first) for flag in ("--study", study)]
    done = CliRunner().invoke(app, ["report", *map(str, flags)])
    assert done.exit_code == 0, done.output
    text = (tmp_path / "report.html").read_text()
    places = [text.index(f'id="study-{name}"') for name in "bac"]
    assert places == sorted(places)
    assert '<a href="#studies">3 studies' in text
    assert "In the report: figures 10, 12." in text and "In the report: Section 3." in text
    with pytest.raises(ValueError, match="studies must each be given once, got a twice"):
        write_report(tmp_path / "twice", [evaluation], studies=[later, later])
    assert not (tmp_path / "twice").exists()
