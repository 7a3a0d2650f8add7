"""Progress without a terminal, and exit codes."""

import subprocess
import sys
from pathlib import Path

import pytest

from scopeworks import console

PRINTS = """
import sys
from scopeworks import console

def command():
    with console.progress("work", 3, "rows") as bar:
        for i in range(3):
            bar.advance(1)
            print("‖x‖ 日本 " * 5000)
            print("‖x‖ on stderr", file=sys.stderr, flush=True)
    with open(sys.argv[1], "w") as file:
        file.write("done")
    raise SystemExit(int(sys.argv[2]))

console.run_command(command)
"""


def _raise(error: BaseException):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ValueError("width must be > 0"), 2, "error: width must be > 0\n"),
        (FileNotFoundError("no such store"), 2, "error: no such store\n"),
        (KeyboardInterrupt(), 130, "the same command continues"),
        (SystemExit(130), 130, "the same command continues"),
        (SystemExit(1), 1, ""),
        (OSError(), 2, "error: OSError\n"),
        (ValueError("one\ntwo \x1b[31m"), 2, "error: one two \\x1b[31m\n"),
    ],
)
def test_known_errors_are_one_line(error, code, text, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as raised:
        console.run_command(_raise(error))
    assert raised.value.code == code
    assert text in capsys.readouterr().err


def test_our_own_bugs_keep_their_traceback():
    with pytest.raises(AssertionError, match="ours"):
        console.run_command(_raise(AssertionError("ours")))


def test_traceback_can_be_asked_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SCOPEWORKS_TRACEBACK", "1")
    with pytest.raises(ValueError, match="seen"):
        console.run_command(_raise(ValueError("seen")))


def test_log_lines_show_rate_time_left_and_fields(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(clock)))
    with console.progress("harvest", 100, "rows") as bar:
        bar.advance(25, loss=0.125)
        bar.advance(25, loss=0.5)
    lines = capsys.readouterr().err.splitlines()
    assert any("harvest: 50/100 rows" in line and "loss 0.5" in line for line in lines)
    assert any("left" in line for line in lines)
    assert lines[-1].endswith("done")


def test_hidden_progress_counts_and_shows_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(console, "LOG_EVERY_S", 0.0)
    with console.hidden_progress(), console.progress("work", 3, "rows") as bar:
        bar.advance(2)
    assert bar.done == 2
    assert capsys.readouterr().err == ""
    with console.progress("work", 3, "rows") as bar:
        bar.advance(2)
    assert "work: 2/3 rows" in capsys.readouterr().err


def test_quick_work_is_silent(capsys: pytest.CaptureFixture[str]):
    with console.progress("quick", None, "rows") as bar:
        bar.advance(3)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "redirection",
    ["| true", ">&-", "2>&-", ">&- 2>&- <&-", "2>&1 | true"],
)
def test_nobody_reading_changes_no_verdict(tmp_path: Path, redirection: str):
    (tmp_path / "prints.py").write_text(PRINTS, encoding="utf-8")
    command = f"{sys.executable} prints.py out 3 {redirection}; exit ${{PIPESTATUS[0]}}"
    environment = {"PYTHONPATH": ":".join(sys.path), "PYTHONIOENCODING": "ascii"}
    ran = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, check=False
    )
    assert ran.returncode == 3
    assert (tmp_path / "out").read_text() == "done"
    assert b"Traceback" not in ran.stderr + ran.stdout
    assert b"Exception ignored" not in ran.stderr


def test_characters_that_a_terminal_lacks_are_escaped(tmp_path: Path):
    (tmp_path / "prints.py").write_text(PRINTS, encoding="utf-8")
    environment = {"PYTHONPATH": ":".join(sys.path), "PYTHONIOENCODING": "latin-1"}
    ran = subprocess.run(
        [sys.executable, "prints.py", "out", "0"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        check=True,
    )
    assert ran.stdout.startswith(rb"\u2016x\u2016 \u65e5\u672c")
    assert rb"\u2016x\u2016 on stderr" in ran.stderr


def test_a_full_disk_behind_the_output_is_an_error(tmp_path: Path):
    (tmp_path / "prints.py").write_text(PRINTS, encoding="utf-8")
    ran = subprocess.run(
        ["bash", "-c", f"{sys.executable} prints.py out 0 > /dev/full"],
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        check=False,
    )
    assert ran.returncode == 2
    assert b"No space left" in ran.stderr
