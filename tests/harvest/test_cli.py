"""The commands: flags, configuration files, one-line errors."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from scopeworks.console import run_command
from scopeworks.harvest.cli import app
from scopeworks.store import ActivationStore, TokenStore


def invoke(*args: object) -> str:
    result = CliRunner().invoke(app, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_tokenize_and_harvest_run_from_flags(model_dir, tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(f"text of {name} " * 40)
    tokens, store = tmp_path / "tokens", tmp_path / "store"
    texts = [tmp_path / "a.txt", tmp_path / "b.txt"]
    flags = ["--out", tokens, "--context", 16, "--held-out", 0]
    output = invoke("tokenize", "--model", model_dir, "--text", *texts, *flags)
    assert "read 2 files, 2 documents" in output
    sites = ["--site", "resid_post.1", "--site", "mlp_out.0-1"]
    flags = ["--store", store, *sites, "--rows", 64, "--device", "cpu"]
    output = invoke("harvest", "--model", model_dir, "--tokens", tokens, *flags)
    assert "64 rows of mlp_out.0, mlp_out.1, resid_post.1" in output
    assert ActivationStore.open(store).rows == 64


def test_flags_win_over_the_configuration_file(model_dir, tmp_path):
    (tmp_path / "a.txt").write_text("some text " * 40)
    config = tmp_path / "c.toml"
    config.write_text(
        f"model = {json.dumps(str(model_dir))}\ntext = [{json.dumps(str(tmp_path / 'a.txt'))}]\n"
        "context = 16\nheld_out = 0.0\nseed = 3\n"
    )
    invoke("tokenize", "--config", config, "--out", tmp_path / "tokens", "--context", 32)
    store = TokenStore.open(tmp_path / "tokens")
    assert (store.context, store.provenance["settings"]["seed"]) == (32, 3)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["tokenize", "--out", "x"], "model must be given"),
        (["harvest", "--model", "nowhere/at/all"], "site must be given"),
    ],
)
def test_what_is_missing_is_one_line_and_exit_code_2(args, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        run_command(lambda: app(args, standalone_mode=False))
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from scopeworks.harvest import cli; "
        "print([m for m in ('torch', 'transformers', 'zarr', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
