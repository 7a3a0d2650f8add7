"""The commands: flags, configuration files, one-line errors."""

import errno
import json
from typing import Any, get_args

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from typer.testing import CliRunner

from scopeworks.console import run_command
from scopeworks.harvest.cli import app
from scopeworks.harvest.settings import HarvestSettings
from scopeworks.store import ActivationStore, TokenStore
from scopeworks.store.format.chunks.codecs import PRESETS
from scopeworks.store.place.local import LocalFiles


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


def test_storage_options_reach_every_url_and_are_written_nowhere(model_dir, tmp_path):
    (tmp_path / "a.txt").write_text("some text " * 40)
    tokens, store = "memory://options/tokens", "memory://options/store"
    secret = ["--storage-option", "skip_instance_cache=true", "--storage-option", "key=s3cret"]
    text = ["--text", tmp_path / "a.txt", "--context", 16]
    memory: Any = MemoryFileSystem()
    try:
        invoke("tokenize", "--model", model_dir, *text, "--out", tokens, *secret)
        made = ["--model", model_dir, "--tokens", tokens, "--store", store, "--device", "cpu"]
        invoke("harvest", *made, "--site", "mlp_out.0", *secret)
        found = memory.find("/options")
        assert {"/options/tokens.tokenize.json", "/options/store.harvest.json"} <= set(found)
        assert not [name for name in found if b"s3cret" in memory.cat(name)]
    finally:
        memory.rm("/options", recursive=True)


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        ("tokenize", ["--text"]),
        ("rollouts", ["--text"]),
        ("harvest", ["--site", "mlp_out.0", "--tokens"]),
    ],
)
def test_storage_options_for_local_paths_are_refused(command, flags, tmp_path):
    out = ["--store" if command == "harvest" else "--out", str(tmp_path / "out")]
    args = [command, "--model", "m", *flags, str(tmp_path), *out, "--storage-option", "anon=true"]
    with pytest.raises(ValueError, match=r"storage_options must be for a URL.*got anon for local"):
        app(args, standalone_mode=False)


def test_storage_option_without_a_value_is_refused():
    with pytest.raises(ValueError, match="--storage-option must be key=value, got 'anon'"):
        app(["tokenize", "--storage-option", "anon"], standalone_mode=False)


def test_a_full_disk_is_one_line_and_keeps_what_was_committed(
    model_dir, tmp_path, monkeypatch, capsys
):
    (tmp_path / "a.txt").write_text("some text " * 100)
    tokens, store = tmp_path / "tokens", tmp_path / "store"
    text = ["--text", tmp_path / "a.txt", "--context", 16, "--held-out", 0]
    invoke("tokenize", "--model", model_dir, *text, "--out", tokens)
    args = ["harvest", "--model", model_dir, "--tokens", tokens, "--store", store]
    args += ["--site", "mlp_out.0", "--bucket-rows", 128, "--device", "cpu"]
    plain = LocalFiles.write

    def write(self, key, parts):
        # Buckets 0 and 1 have objects 0 and 1; from the third on, nothing fits.
        if "/c/2" in key:
            raise OSError(errno.ENOSPC, "No space left on device", str(self.root / key))
        plain(self, key, parts)

    monkeypatch.setattr(LocalFiles, "write", write)
    with pytest.raises(SystemExit, match="2"):
        run_command(lambda: app([str(arg) for arg in args], standalone_mode=False))
    error = capsys.readouterr().err
    assert "No space left on device" in error
    assert "make room: what was committed is kept" in error
    assert str(store) in error
    assert error.count("\n") == 1
    assert ActivationStore.open(store).rows == 256
    monkeypatch.undo()
    invoke(*args)
    assert ActivationStore.open(store).complete


def test_codecs_are_those_of_the_store():
    codec = HarvestSettings.model_fields["codec"].annotation
    assert get_args(codec) == tuple(PRESETS)
