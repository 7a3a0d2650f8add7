"""The demo end to end, cut down: real stages, real model, little text and few updates."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import scopeworks
from scopeworks.pipelines import demo
from scopeworks.pipelines.corpus import stdlib_sources
from scopeworks.settings import resolve

SPARSITY = (3e-3, 3e-2)


def _settings(out: Path, **other: object) -> demo.DemoSettings:
    text = [str(path) for path in stdlib_sources() if path.parent.name in ("json", "email")]
    small = {"rows": 30_000, "width": 256, "steps": 60, "batch": 256, "sparsity_warmup_steps": 20}
    few = {"sparsity": SPARSITY, "evaluation_sequences": 8, "lr_warmup_steps": 10}
    return resolve(demo.DemoSettings, None, out=out, text=text, **(small | few | other))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished small demo."""
    out = tmp_path_factory.mktemp("demo") / "out"
    demo.run_demo(_settings(out))
    return out


def _saes(out: Path) -> list[Path]:
    return sorted((out / "saes").glob("*/sae.safetensors"))


def test_demo_leaves_everything_it_promises(made: Path):
    assert (made / "report.html").stat().st_size > 10_000
    assert len(_saes(made)) == len(SPARSITY)
    assert len(list((made / "release").glob("layer_3/width_*/average_l0_*/params.npz"))) == 2
    assert len(list((made / "release" / "sae_lens").glob("*/cfg.json"))) == 2
    assert json.loads((made / "demo.json").read_text())["width"] == 256


def test_more_sparsity_gives_fewer_active_latents(made: Path):
    saes = json.loads((made / "evaluation.json").read_text())["saes"]
    assert saes[0]["l0"] > saes[1]["l0"] > 0
    assert saes[0]["fvu"] < saes[1]["fvu"] < 1


def test_release_gives_the_numbers_of_the_trained_sae(made: Path):
    x = scopeworks.ActivationStore.open(made / "store").read("resid_post.3", 0, 64)
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


def test_same_seed_gives_the_same_saes_bit_for_bit(made: Path, tmp_path: Path):
    demo.run_demo(_settings(tmp_path / "again"))
    pairs = list(zip(_saes(made), _saes(tmp_path / "again"), strict=True))
    assert len(pairs) == len(SPARSITY)
    for first, second in pairs:
        assert first.read_bytes() == second.read_bytes()


def test_same_command_again_keeps_what_is_there(made: Path):
    before = {path: path.stat().st_mtime_ns for path in _saes(made)}
    demo.run_demo(_settings(made))
    assert {path: path.stat().st_mtime_ns for path in _saes(made)} == before


def test_other_settings_are_refused_with_their_names(made: Path):
    with pytest.raises(ValueError, match="with width: 256 → 128; choose another folder"):
        demo.run_demo(_settings(made, width=128))


@pytest.mark.parametrize("kind", ["file", "full"])
def test_foreign_out_is_refused_and_kept(tmp_path: Path, kind: str):
    out = tmp_path / "out"
    thesis = out if kind == "file" else out / "thesis.txt"
    thesis.parent.mkdir(exist_ok=True)
    thesis.write_text("years of work", encoding="utf-8")
    with pytest.raises(ValueError, match="out must be"):
        demo.run_demo(_settings(out))
    assert thesis.read_text(encoding="utf-8") == "years of work"


@pytest.mark.parametrize("text", ["", "[]", '{"width": "many"}'])
def test_a_damaged_record_of_a_demo_is_named(tmp_path: Path, text: str):
    (tmp_path / demo.SETTINGS_FILE).write_text(text)
    with pytest.raises(ValueError, match=f"^{tmp_path}/demo.json (is not valid|does not hold)"):
        demo.run_demo(_settings(tmp_path))


def test_settings_that_training_refuses_are_refused_before_the_harvest(tmp_path: Path):
    with pytest.raises(ValueError, match=r"sparsity_warmup_steps must be below steps \(15\)"):
        demo.run_demo(_settings(tmp_path / "out", steps=15))
    assert not (tmp_path / "out").exists()
