"""The commands: flags, --config, --set, and errors a person can mend."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from scopeworks.train.cli import app, merged
from scopeworks.train.sae import SAE

QUICK = {"steps": 12, "batch": 64, "lr": 2e-3, "device": "cpu"}
MORE = ["--set", "measure_rows=64", "--set", "bandwidth=0.05", "--set", "theta_start=0.05"]


def command(name: str, **flags: object) -> list[str]:
    """An argument list; a list value repeats its flag."""
    words = [name]
    for flag, value in flags.items():
        for one in value if isinstance(value, list) else [value]:
            words += ["--" + flag.replace("_", "-"), str(one)]
    return words


def call(words: list[str]) -> str:
    """Runs the command; its error is raised as the user's program would see it."""
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_train_then_export(store_url: str, tmp_path: Path):
    flags = {"store": store_url, "site": "resid_post.3", "width": 32, "sparsity": 1e-3}
    text = call(command("train", out=tmp_path / "a", **flags, **QUICK) + MORE)
    assert "L0" in text
    assert "FVU" in text
    call(command("export", sae=tmp_path / "a", format="sae-lens", out=tmp_path / "lens"))
    assert SAE.load(tmp_path / "lens").config.d_sae == 32


def test_config_file_gives_settings_and_flags_win(store_url: str, tmp_path: Path):
    config = tmp_path / "train.toml"
    config.write_text(
        f'store = "{store_url}"\nsite = "resid_post.3"\nwidth = 32\nsteps = 500\nbatch = 64\n'
        "measure_rows = 64\n"
    )
    call(command("train", out=tmp_path / "a", config=config, steps=3, device="cpu"))
    assert SAE.load(tmp_path / "a").config.trained_rows == 3 * 64


def test_sweep_trains_every_value(store_url: str, tmp_path: Path):
    flags = {"store": store_url, "site": "resid_post.3", "width": 32, "sparsity": [1e-3, 1e-2]}
    call(command("sweep", out=tmp_path / "s", **flags, **QUICK) + MORE)
    names = sorted(p.parent.name for p in tmp_path.glob("s/*/sae.safetensors"))
    assert names == ["sparsity_0.001", "sparsity_0.01"]


def test_missing_setting_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match="site must be given"):
        call(command("train", out=tmp_path, store="s", width=4))


def test_set_pairs_are_typed_and_checked():
    pairs = ["theta-form=log", "lr_decay_share=0.2", "skip=true"]
    assert merged({"lr": None}, pairs) == {
        "theta_form": "log",
        "lr_decay_share": 0.2,
        "skip": True,
    }
    with pytest.raises(ValueError, match="--set must be name=value"):
        merged({}, ["lr"])
    with pytest.raises(ValueError, match="lr must be given once"):
        merged({"lr": 1e-3}, ["lr=2e-3"])
