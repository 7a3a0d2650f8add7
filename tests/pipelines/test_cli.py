"""The whole command: its version, and a help that loads nothing heavy."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import scopeworks
from scopeworks.pipelines import cli

HEAVY = "torch numba transformers triton dask distributed zarr jaxtyping matplotlib starlette"
CODE = f"""
import json, sys
import typer
from typer.testing import CliRunner
from scopeworks.pipelines.cli import app

found = {{}}
def ask(command, words):
    done = CliRunner().invoke(app, [*words, "--help"])
    loaded = [name for name in {HEAVY.split()!r} if name in sys.modules]
    found[" ".join(words)] = [done.exit_code, loaded, "Usage: " in done.output]
    for name, one in getattr(command, "commands", {{}}).items():
        ask(one, [*words, name])
ask(typer.main.get_command(app), [])
print(json.dumps(found))
"""


def test_help_of_every_command_loads_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert {"", "train", "latents index", "store verify", "batch submit", "plan"} <= set(found)
    assert {words: said for words, said in found.items() if said != [0, [], True]} == {}


def options(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Each option of each command, and its short help."""
    for name, one in getattr(command, "commands", {}).items():
        yield from options(one, (*words, name))
    for param in command.params:
        texts = (param.help or "").split("\f")
        yield " ".join((*words, param.name)), texts[0 if command.epilog else -1]


def test_every_option_is_explained_in_a_few_words():
    told = dict(options(typer.main.get_command(cli.app)))
    assert len(told) > 300
    assert [name for name, text in told.items() if not (0 < len(text) < 200)] == []


def test_version_is_the_package_s_and_nothing_more():
    for flag in ("--version", "-v"):
        done = subprocess.run(
            [sys.executable, "-m", "scopeworks", flag], capture_output=True, text=True, check=True
        )
        assert (done.stdout, done.stderr) == (f"{scopeworks.__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("train --width abc", "width must be a whole number, got 'abc'"),
        ("harvest --codec zip", "'zip' is not one of 'exact', 'fast', 'float32', 'int8'; see `"),
        ("evaluate --sea x", "No such option: --sea (Possible options: --"),
        ("trian", "No such command 'trian'. Did you mean 'train'?; see `"),
        ("store copy x", "Missing argument 'target'; see `"),
        ("batch render demo", "target must be given (as --target); out must be given (as --out)"),
        ("run demo --wait -1", "wait must be at least 0, got -1.0"),
    ],
)
def test_what_cannot_be_parsed_is_one_line(words, error, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["scopeworks", *words.split()])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    said = capsys.readouterr().err
    assert said.startswith("error: ") and error in said and said.count("\n") == 1


def test_a_command_s_own_verdict_is_the_exit_code(monkeypatch, capsys):
    app = typer.Typer()

    @app.command()
    def judge() -> None:
        raise typer.Exit(1)

    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(sys, "argv", ["scopeworks"])
    with pytest.raises(SystemExit, match="1"):
        cli.main()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", ["sweep", "run", "evaluate"])
@pytest.mark.parametrize("rank", ["0", "1"])
def test_ranks_are_refused_by_all_commands_but_train(
    command: str, rank: str, monkeypatch: pytest.MonkeyPatch
):
    for name, value in {"RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOCAL_RANK", rank)
    done = CliRunner().invoke(cli.app, [command, "--help"])
    text = f"{command} must be run by one process, got 2 of torchrun; start it alone, or use train"
    assert str(done.exception) == ("2" if rank == "1" else text)
    assert CliRunner().invoke(cli.app, ["train", "--help"]).exit_code == 0
