"""The commands: flags and TOML to settings, a table on the terminal, files on disk."""

import json
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from typer.testing import CliRunner

from scopeworks.evaluate.cli import app

runner = CliRunner()


def test_evaluate_and_report_write_their_files(model_dir, tokens_url, sae_dir, tmp_path):
    out = tmp_path / "e.json"
    flags = ["--sae", sae_dir, "--model", model_dir, "--tokens", tokens_url, "--out", out]
    done = runner.invoke(app, ["evaluate", *map(str, flags), "--top-latents", "2"])
    assert done.exit_code == 0, done.output
    entry = json.loads(out.read_text())["saes"][0]
    assert f"{entry['fvu']:.4f}" in done.output
    assert len(entry["top_activations"]) == 2
    page = tmp_path / "page.html"
    flags = ["--evaluation", str(out), "--out", str(page), "--title", "A title"]
    done = runner.invoke(app, ["report", *flags])
    assert done.exit_code == 0, done.output
    assert "<h1>A title</h1>" in page.read_text()


def test_flags_win_over_toml(model_dir, tokens_url, sae_dir, tmp_path):
    config = tmp_path / "e.toml"
    config.write_text(
        f'sae = ["{sae_dir}"]\nmodel = "{model_dir}"\ntokens = "{tokens_url}"\n'
        f'out = "{tmp_path / "e.json"}"\nn_sequences = 5\ntop_latents = 0\nbatch = 2\n'
    )
    done = runner.invoke(app, ["evaluate", "--config", str(config), "--n-sequences", "3"])
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "e.json").read_text())
    assert result["tokens"]["n_sequences"] == 3
    assert result["tokens"]["fewer_than_asked"] is False
    assert result["settings"]["batch"] == 2


def test_unknown_setting_in_toml_is_one_line(tmp_path):
    config = tmp_path / "e.toml"
    config.write_text("n_sequence = 5\n")
    done = runner.invoke(app, ["evaluate", "--config", str(config)])
    with pytest.raises(ValueError, match="did you mean 'n_sequences'"):
        raise done.exception or AssertionError(done.output)


def test_storage_options_reach_the_tokens_and_no_file(model_dir, tokens_url, sae_dir, tmp_path):
    memory = MemoryFileSystem()
    for path in Path(tokens_url).rglob("*"):
        if path.is_file():
            memory.pipe_file(f"/evaluated/{path.relative_to(tokens_url)}", path.read_bytes())
    out = tmp_path / "e.json"
    flags = ["--sae", sae_dir, "--model", model_dir, "--tokens", "memory://evaluated", "--out", out]
    flags += ["--storage-option", "skip_instance_cache=true", "--top-latents", "0"]
    done = runner.invoke(app, ["evaluate", *map(str, flags)])
    assert done.exit_code == 0, done.output
    assert "skip_instance_cache" not in out.read_text()
    flags[flags.index("memory://evaluated")] = tokens_url
    done = runner.invoke(app, ["evaluate", *map(str, flags)])
    with pytest.raises(ValueError, match="storage_options has no effect on local tokens"):
        raise done.exception or AssertionError(done.output)
