"""What a family of another shape needs of the interface, tried with a Gemma 2 in disguise."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from scopeworks.harvest.model import families
from scopeworks.harvest.model.families import GEMMA2, family_of
from scopeworks.harvest.model.loading import load_model
from scopeworks.harvest.model.sites import expand_sites

DISGUISED = replace(
    GEMMA2,
    title="Gemma 9",
    model_types=("gemma9", "gemma2"),  # transformers' configuration is still a Gemma 2's
    nested="text_config",
    renamed_weights={r"^language_model\.": ""},
    ignored_weights=r"vision_tower\.",
)


def test_model_inside_a_larger_one_is_loaded_alone(damaged: Path, model_dir: Path, monkeypatch):
    weights = {
        f"language_model.{k}": t for k, t in load_file(damaged / "model.safetensors").items()
    }
    weights["vision_tower.patches.weight"] = torch.ones(2, 3)
    save_file(weights, damaged / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((damaged / "config.json").read_text())
    (damaged / "config.json").write_text(
        json.dumps({"model_type": "gemma9", "text_config": config})
    )
    plain = load_model(model_dir, dtype="float32", device="cpu")
    with pytest.raises(ValueError, match=r"must be a Gemma 2.*, got .* with model_type 'gemma9'"):
        load_model(damaged)
    monkeypatch.setattr(families, "FAMILIES", (DISGUISED,))
    assert load_model(damaged, dtype="float32", device="cpu").fingerprint == plain.fingerprint


def test_model_of_no_family_is_refused_by_its_type():
    class Config:
        model_type = "llama"

    with pytest.raises(
        ValueError, match=r"model must be a Gemma 2.*, got one with model_type 'llama'"
    ):
        family_of(Config())


def test_config_without_a_model_type_is_refused(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"hidden_size": 32}')
    with pytest.raises(ValueError, match=r"must be a Gemma 2.*, got .* with no model_type; other"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("own", "loaded"),
    [
        ("language_model.model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),
        ("model.language_model.norm.weight", "model.norm.weight"),
        ("language_model.lm_head.weight", "lm_head.weight"),
        ("model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),
        ("lm_head.weight", "lm_head.weight"),
    ],
)
def test_weights_of_a_model_inside_a_larger_one_are_named_as_alone(own: str, loaded: str):
    assert GEMMA2.as_loaded(own) == loaded


def test_shape_of_a_released_model_is_its_twins_too():
    base, tuned = map(GEMMA2.shape_of, ("google/gemma-2-9b", "google/gemma-2-9b-it"))
    assert base is not None and base == tuned and base["hidden_size"] == 3584
    assert GEMMA2.shape_of("google/gemma-2-9b-it-it") is None


def test_what_has_no_model_type_is_refused_in_python():
    with pytest.raises(ValueError, match=r"must be a Gemma 2.*, got one with no model_type"):
        family_of(None)


def test_sites_of_a_family_that_lacks_a_kind_are_its_own():
    lacking = replace(
        GEMMA2,
        title="Gemma 9",
        sites={kind: place for kind, place in GEMMA2.sites.items() if kind != "attn_out"},
    )
    assert expand_sites(["*.1"], 2, lacking) == ["transcoder_in.1", "mlp_out.1", "resid_post.1"]
    with pytest.raises(
        ValueError, match=r"site attn_out does not exist in a Gemma 9; its kinds are transcoder_in"
    ):
        expand_sites(["resid_post.1", "attn_out.0"], 2, lacking)


def test_kind_that_a_family_lacks_is_refused():
    with pytest.raises(
        ValueError, match=r"site embed does not exist in a Gemma 2; its kinds are a"
    ):
        GEMMA2.place("embed")
