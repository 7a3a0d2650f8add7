"""The commands: flags and TOML to settings, a table on the terminal, files on disk."""

import json
from pathlib import Path

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from scopeworks.evaluate.cli import app, summary
from scopeworks.tests.evaluate.saes import random_sae
from scopeworks.tests.hub_server import folder_files, serving, use
from scopeworks.train.sae.export import export_sae

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


def test_figure_that_is_not_as_declared_is_called_out(model_dir, tokens_url, tmp_path, capfd):
    sae = random_sae("resid_post.1")
    sae.config = sae.config.model_copy(update={"l0": 2.0})
    sae.save(tmp_path / "sae")
    out = tmp_path / "e.json"
    flags = ["--sae", tmp_path / "sae", "--model", model_dir, "--tokens", tokens_url, "--out", out]
    done = runner.invoke(app, ["evaluate", *map(str, flags), "--top-latents", "0"])
    assert done.exit_code == 0, done.output
    (text,) = json.loads(out.read_text())["saes"][0]["warnings"]
    assert "where its files declare 2 (" in text
    assert f"warning: SAE sae: {text}\n" in done.stderr
    assert "% ⚠\n" in done.stdout and "⚠: not as its files declare" in done.stdout


def test_sae_that_cannot_be_read_leaves_nothing(model_dir, tokens_url, tmp_path):
    random_sae("resid_post.1").save(tmp_path / "sae")
    folder = export_sae(tmp_path / "sae", "gemma-scope", tmp_path / "release", l0=16)
    with np.load(folder / "params.npz") as data:
        arrays = dict(data)
    for changes, text in (
        ({"threshold": np.array([{}], object)}, "threshold is pickled"),
        ({"W_dec": arrays["W_dec"].T}, "it is transposed"),
        ({"b_enc": np.full(48, np.nan)}, "b_enc must be finite"),
    ):
        np.savez(folder / "params.npz", allow_pickle=True, **(arrays | changes))
        flags = ["--sae", folder, "--model", model_dir, "--tokens", tokens_url]
        done = runner.invoke(
            app, ["evaluate", *map(str, [*flags, "--out", tmp_path / "new/e.json"])]
        )
        with pytest.raises(ValueError, match=text):
            raise done.exception or AssertionError(done.output)
        assert not (tmp_path / "new").exists()


@pytest.mark.filterwarnings("ignore:Implicitly cleaning up <HTTPError")
def test_saes_of_the_world_are_evaluated_by_name(model_dir, tokens_url, tmp_path, monkeypatch):
    """A hub's params.npz, a Gemma Scope 2 skip transcoder, a top-k SAE of an older SAELens."""
    plain = random_sae("resid_post.1")
    plain.config = plain.config.model_copy(update={"l0": 16.0})
    plain.save(tmp_path / "plain")
    export_sae(tmp_path / "plain", "gemma-scope", tmp_path / "release")
    random_sae("mlp_in.1", "mlp_out.1", skip=True).save(tmp_path / "skip")
    skip = export_sae(tmp_path / "skip", "gemma-scope-2", tmp_path / "scope2")
    lens = export_sae(tmp_path / "plain", "sae-lens", tmp_path / "lens")
    record = json.loads((lens / "cfg.json").read_text()) | {"architecture": "standard"}
    record |= {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 3}}
    (lens / "cfg.json").write_text(json.dumps(record))
    weights = load_file(lens / "sae_weights.safetensors")
    weights.pop("threshold")
    save_file(weights, lens / "sae_weights.safetensors")
    out = tmp_path / "e.json"
    with serving() as hub:
        use(hub, tmp_path / "cache", monkeypatch)
        hub.add("user/saes", folder_files(tmp_path / "release"))
        names = ["hf://user/saes/layer_1/width_48/canonical", skip, lens]
        flags = [text for name in names for text in ("--sae", str(name))]
        flags += ["--model", str(model_dir), "--tokens", tokens_url, "--out", str(out)]
        done = runner.invoke(app, ["evaluate", *flags])
    assert done.exit_code == 0, done.output
    saes = json.loads(out.read_text())["saes"]
    assert "@" in saes[0]["path"] and saes[0]["config"]["l0"] == 16
    assert (saes[1]["site"], saes[1]["target_site"]) == ("mlp_in.1", "mlp_out.1")
    assert saes[2]["config"]["k"] == 3 and saes[2]["l0"] <= 3
    assert all(len(entry["top_activations"]) > 0 for entry in saes)


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


def test_the_table_says_what_its_intervals_hold_for():
    entry = {"name": "sae", "l0": 3.0, "fvu": 0.2, "delta_loss": 0.1, "kl": 0.1}
    entry |= {"recovered_share": 0.9, "dead_share": 0.0}
    entry["intervals"] = {"fvu": [0.1, 0.3], "delta_loss": [0.0, 0.2]}
    tokens = {"n_sequences": 20, "context": 8, "fewer_than_asked": False}
    lines = summary({"tokens": tokens, "clean": {"loss": 2.0}, "saes": [entry]})
    assert lines[-1] == "±: 95% interval over sequences of these documents"


def test_a_figure_of_many_digits_has_an_exponent():
    entry = {"name": "sae", "l0": 3.0, "fvu": 1.234567e59, "delta_loss": -12345.678, "kl": 9999.5}
    entry |= {"recovered_share": -2e7, "dead_share": 0.0}
    entry["intervals"] = {"fvu": [1e59, 2e59], "delta_loss": None}
    tokens = {"n_sequences": 2, "context": 8, "fewer_than_asked": False}
    lines = summary({"tokens": tokens, "clean": {"loss": 2.0}, "saes": [entry]})
    assert lines[2].split()[1:-1] == [
        *("3.0", "1.235e+59", "±5e+58", "-1.235e+04", "9999.5000", "-2e+07"),
    ]
