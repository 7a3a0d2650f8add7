"""The demo end to end, cut down: real stages, real model, little text and few updates."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import scopeworks
from scopeworks.harvest.text.stdlib import stdlib_sources
from scopeworks.pipelines.cli import app

SPARSITY = (3e-3, 3e-2)


def run_demo(out: Path, *more: str) -> str:
    """The command, with little to do; what it prints."""
    text = [str(path) for path in stdlib_sources() if path.parent.name in ("json", "email")]
    changes = [f"text.sources={json.dumps(text)}", "train.batch=256", "evaluate.n_sequences=8"]
    changes += ["train.lr_warmup_steps=10", "train.sparsity_warmup_steps=20"]
    flags = ["--rows", "30000", "--width", "256", "--steps", "60"]
    flags += [f"--sparsity={value}" for value in SPARSITY]
    flags += [f"--set={change}" for change in changes]
    result = CliRunner().invoke(
        app, ["demo", "--out", str(out), *flags, *more], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished small demo."""
    out = tmp_path_factory.mktemp("demo") / "out"
    run_demo(out)
    return out


def _saes(out: Path) -> list[Path]:
    return sorted((out / "saes").glob("*/sae.safetensors"))


def test_demo_leaves_everything_it_promises(made: Path):
    assert (made / "report.html").stat().st_size > 10_000
    assert len(_saes(made)) == len(SPARSITY)
    assert len(list((made / "release").glob("layer_3/width_*/average_l0_*/params.npz"))) == 2
    assert len(list((made / "release" / "sae_lens").rglob("cfg.json"))) == 2
    assert (made / "release" / "SHA256SUMS").is_file()


def test_more_sparsity_gives_fewer_active_latents(made: Path):
    files = [json.loads(path.read_text()) for path in (made / "evaluations").glob("*.json")]
    saes = sorted((file["saes"][0] for file in files), key=lambda entry: -entry["l0"])
    assert [sae["config"]["sparsity"] for sae in saes] == list(SPARSITY)
    assert saes[0]["l0"] > saes[1]["l0"] > 0
    assert saes[0]["fvu"] < saes[1]["fvu"] < 1


def test_release_gives_the_numbers_of_the_trained_sae(made: Path):
    (store,) = (path for path in (made / "stores").iterdir() if path.is_dir())
    x = scopeworks.ActivationStore.open(store).read("resid_post.3", 0, 64)
    saes = sorted(
        (scopeworks.SAE.load(path.parent) for path in _saes(made)),
        key=lambda sae: sae.config.l0 or 0,
    )
    released = sorted(
        made.glob("release/**/params.npz"), key=lambda p: float(p.parent.name.split("_")[-1])
    )
    for sae, path in zip(saes, released, strict=True):
        other = scopeworks.SAE.load(path)
        torch.testing.assert_close(other.encode(x), sae.encode(x), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(other(x), sae(x), rtol=1e-5, atol=1e-4)
        with np.load(path, allow_pickle=False) as arrays:
            assert arrays["W_enc"].shape == (128, 256)


def test_same_seed_gives_the_same_saes_and_release_bit_for_bit(made: Path, tmp_path: Path):
    again = tmp_path / "again"
    run_demo(again)
    pairs = list(zip(_saes(made), _saes(again), strict=True))
    assert len(pairs) == len(SPARSITY)
    for first, second in pairs:
        assert first.read_bytes() == second.read_bytes()
    files = sorted(path for path in (made / "release").rglob("*") if path.is_file())
    assert len(files) > 8
    for path in files:
        other = again / path.relative_to(made)
        assert path.read_bytes() == other.read_bytes(), path.name


def test_same_command_again_does_nothing(made: Path):
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*") if path.is_file()}
    output = run_demo(made)
    assert output.count(": before (") == 7 and ": now" not in output
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*") if path.is_file()} == before
