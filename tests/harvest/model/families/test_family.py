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
    with pytest.raises(ValueError, match=r"must be a Gemma 2, got .* with model_type 'gemma9'"):
        load_model(damaged)
    monkeypatch.setattr(families, "FAMILIES", (DISGUISED,))
    assert load_model(damaged, dtype="float32", device="cpu").fingerprint == plain.fingerprint


def test_model_of_no_family_is_refused_by_its_type():
    class Config:
        model_type = "llama"

    with pytest.raises(
        ValueError, match="model must be a Gemma 2, got one with model_type 'llama'"
    ):
        family_of(Config())


def test_kind_that_a_family_lacks_is_refused():
    with pytest.raises(
        ValueError, match=r"site embed does not exist in a Gemma 2; its kinds are a"
    ):
        GEMMA2.place("embed")
