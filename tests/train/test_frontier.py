"""The board of a sweep: what stands in the table, the summary and the picture."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from scopeworks.train.frontier import Board, plain_log_axis, table
from scopeworks.train.settings import TrainSettings
from scopeworks.train.sweeps.sweep import sweep

Make = Callable[..., TrainSettings]
PNG = b"\x89PNG\r\n\x1a\n"


def test_table_sorts_by_l0_and_marks_what_is_unknown(settings: Make, tmp_path: Path):
    members = [settings("o/a"), settings("o/b"), settings("o/c")]
    board = Board(members, tmp_path)
    line = {"step": 10, "l0": 5.0, "fvu": 0.25, "dead_share": 0.0, "sparsity": 1e-3}
    board.watch(members[1], line)
    board.watch(members[2], line | {"l0": 50.0})
    lines = table(list(board.rows.values())).splitlines()
    assert [text.split()[0] for text in lines] == ["member", "c", "b", "a"]
    assert lines[2].split()[1:] == ["48", "0.001", "10/30", "5.0", "0.2500", "0.0%"]
    assert lines[3].split()[-1] == "…"
    assert len({len(text) for text in lines}) == 1


def test_sweep_leaves_summary_picture_and_table(
    settings: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    members = [settings("o/low", sparsity=1e-3), settings("o/high", sparsity=3e-2)]
    folders = sweep(members, tmp_path / "o")
    assert [f.name for f in folders] == ["low", "high"]
    rows = json.loads((tmp_path / "o/sweep.json").read_text())["members"]
    assert [(row["name"], row["measured"]) for row in rows] == [("low", True), ("high", True)]
    assert rows[0]["l0"] > rows[1]["l0"]
    assert rows[0]["fvu"] < rows[1]["fvu"]
    assert (tmp_path / "o/frontier.png").read_bytes().startswith(PNG)
    assert "done" in capsys.readouterr().err


def test_diverged_member_does_not_hide_the_others(settings: Make, tmp_path: Path):
    members = [settings("o/wild", lr=1e30, lr_warmup_steps=0), settings("o/calm")]
    with pytest.raises(ValueError, match="wild must be finite"):
        sweep(members, tmp_path / "o")
    rows = json.loads((tmp_path / "o/sweep.json").read_text())["members"]
    assert [(row["name"], row["measured"]) for row in rows] == [("wild", False), ("calm", True)]


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (7, 140, ["10", "20", "50", "100"]),
        (22, 48, ["30", "40"]),
        (23, 24, ["23.25", "23.5", "23.75"]),
        (0.03, 0.4, ["0.05", "0.1", "0.2"]),
        (1e-4, 1e-2, ["0.0001", "0.0002", "0.0005", "0.001", "0.002", "0.005", "0.01"]),
        (1, 1e4, ["1", "10", "100", "1,000", "10,000"]),
        (1e-6, 1e12, ["1e-06", "0.001", "1", "1,000", "1,000,000", "1e+09", "1e+12"]),
    ],
)
def test_log_axis_has_plain_numbers(low: float, high: float, wanted: list[str]):
    axes = Figure().add_subplot()
    axes.plot([low, high], [1, 2])
    axes.margins(x=0)
    plain_log_axis(axes, "x")
    shown = [axes.xaxis.get_major_formatter()(tick) for tick in axes.xaxis.get_majorticklocs()]
    assert set(wanted) <= set(shown)
    assert len(shown) <= 8
    assert axes.xaxis.get_minorticklocs().size == 0
