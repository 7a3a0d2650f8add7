"""The two commands: flags become settings, errors one line and exit code 2."""

import pytest
from typer.testing import CliRunner

from scopeworks.console import run_command
from scopeworks.evaluate.latents.cli import app
from scopeworks.evaluate.latents.explain import run as explaining
from scopeworks.evaluate.latents.score import run as scoring


def test_flags_become_settings(monkeypatch):
    seen = []
    monkeypatch.setattr(explaining, "explain_latents", lambda s: seen.append(s) or ["done"])
    monkeypatch.setattr(scoring, "score", lambda s: seen.append(s) or ["scored"])
    asked = ["--endpoint", "http://127.0.0.1:1/v1", "--llm", "m", "--tries", "2"]
    done = CliRunner().invoke(app, ["explain", "I", "--latents", "3, 17", "--hard", "5", *asked])
    assert done.output == "done\n"
    done = CliRunner().invoke(app, ["score", "I", "--scorer", "tokens", "--seed", "4"])
    assert done.output == "scored\n"
    first, second = seen
    assert (first.latents, first.hard, first.kind, first.tries) == ([3, 17], 5, "llm", 2)
    assert (second.scorers, second.seed) == (["tokens"], 4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["explain", "I", "--latents", "3,x"], "latents must be numbers with commas"),
        (["explain", "nowhere"], "index must be a folder that `scopeworks latents index` wrote"),
        (["score", "nowhere"], "index must be a folder that `scopeworks latents index` wrote"),
        (["score", "I", "--endpoint", "x"], "endpoint"),
        (["score", "I", "--parallel", "2"], "parallel has no effect without endpoint"),
    ],
)
def test_errors_are_one_line_and_code_2(arguments, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        run_command(lambda: app(arguments, standalone_mode=False))
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1
