"""Progress without a terminal, and exit codes."""

import pytest

from scopeworks import console


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


def test_quick_work_is_silent(capsys: pytest.CaptureFixture[str]):
    with console.progress("quick", None, "rows") as bar:
        bar.advance(3)
    assert capsys.readouterr().err == ""
