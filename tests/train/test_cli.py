"""The commands: flags, --config, --set, and errors a person can mend."""

from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from typer.testing import CliRunner

from scopeworks.train.cli import app, merged
from scopeworks.train.sae.sae import SAE

from .conftest import write_store

QUICK = {"steps": 12, "batch": 64, "lr": 2e-3, "device": "cpu"}
MORE = ["--set", "measure_rows=64", "--set", "bandwidth=0.05", "--set", "theta_start=0.05"]
MORE += ["--set", "lr_warmup_steps=2", "--set", "sparsity_warmup_steps=4"]


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
        "measure_rows = 64\nlr_warmup_steps = 0\nsparsity_warmup_steps = 0\n"
    )
    call(command("train", out=tmp_path / "a", config=config, steps=3, device="cpu"))
    assert SAE.load(tmp_path / "a").config.trained_rows == 3 * 64


def test_sweep_trains_every_value(store_url: str, tmp_path: Path):
    flags = {"store": store_url, "site": "resid_post.3", "width": 32, "sparsity": [1e-3, 1e-2]}
    call(command("sweep", out=tmp_path / "s", **flags, **QUICK) + MORE)
    names = sorted(p.parent.name for p in tmp_path.glob("s/*/sae.safetensors"))
    assert names == ["sparsity_0.001", "sparsity_0.01"]


def test_store_is_repeated_for_stores_of_the_same_rows(tmp_path: Path):
    widths = {"transcoder_in.3": 16, "mlp_out.3": 8}
    urls = [write_store(tmp_path / site, {site: width}) for site, width in widths.items()]
    flags = {"store": urls, "site": "transcoder_in.3", "target_site": "mlp_out.3", "width": 32}
    call(command("train", out=tmp_path / "a", **flags, **QUICK) + MORE)
    call(command("sweep", out=tmp_path / "s", sparsity=[1e-3], **flags, **QUICK) + MORE)
    config = tmp_path / "train.toml"
    config.write_text(f"store = {urls}\n")
    del flags["store"]
    call(command("train", out=tmp_path / "b", config=config, **flags, **QUICK) + MORE)
    for folder in (tmp_path / "b", *(tmp_path / "s").glob("*/")):
        assert SAE.load(folder).config.d_out == 8
    files = [tmp_path / name / "sae.safetensors" for name in ("a", "b")]
    assert files[0].read_bytes() == files[1].read_bytes()
    del flags["target_site"]
    with pytest.raises(ValueError, match=r"got resid_post.0; .*join the store that has it"):
        call(
            command("train", out=tmp_path / "c", config=config, **flags | {"site": "resid_post.0"})
        )


def test_missing_setting_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match="site must be given"):
        call(command("train", out=tmp_path, store="s", width=4))


def test_set_pairs_are_typed_and_checked():
    pairs = ["theta-form=log", "lr_decay_share=0.2", "skip=true"]
    assert merged({"lr": 1e-3}, pairs) == {
        "lr": 1e-3,
        "theta_form": "log",
        "lr_decay_share": 0.2,
        "skip": True,
    }
    with pytest.raises(ValueError, match="--set must be name=value"):
        merged({}, ["lr"])
    with pytest.raises(ValueError, match="lr must be given once"):
        merged({"lr": 1e-3}, ["lr=2e-3"])


def test_storage_options_reach_store_and_checkpoints_and_no_file(store_url: str, tmp_path: Path):
    seen: dict[str, object] = {}

    class Keyed(MemoryFileSystem):
        protocol = ("keyed",)

        def __init__(self, key: str = "", **options: Any):
            seen["key"] = key
            super().__init__(**options)

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return super()._strip_protocol(path.replace("keyed://", "memory://"))

    fsspec.register_implementation("keyed", Keyed, clobber=True)
    for path in Path(store_url).rglob("*"):
        if path.is_file():
            MemoryFileSystem().pipe_file(f"/s/{path.relative_to(store_url)}", path.read_bytes())
    flags = {"store": "keyed://s", "site": "resid_post.3", "width": 32, "storage_option": "key=pw"}
    places = ["--set", "checkpoints=keyed://c"]
    call(command("train", out=tmp_path / "a", **flags, **QUICK) + MORE + places)
    call(command("sweep", out=tmp_path / "b", **flags, **QUICK) + MORE + places)
    assert seen["key"] == "pw"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 6
    assert not any(b"pw" in path.read_bytes() for path in files if path.suffix == ".json")


def test_name_without_effect_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="name has no effect on a run without wandb_project"):
        call(command("train", out=tmp_path, store="s", site="a.1", width=4, set="name=x"))


def test_url_where_a_folder_must_be_is_refused(tmp_path: Path):
    flags = {"sae": tmp_path, "out": "gs://b/out", "format": "sae-lens"}
    with pytest.raises(ValueError, match="out must be a local path"):
        call(command("export", **flags))
