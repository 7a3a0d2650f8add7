"""Weight files that are not those of their configuration, or not weights."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from scopeworks.harvest.model.loading import load_model


def change(folder, edit) -> None:
    """Edits the tensors of a model folder."""
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def as_bin(folder, value=None) -> None:
    """Replaces the weights by a PyTorch file."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights if value is None else value, folder / "pytorch_model.bin")


def as_shards(folder, edit) -> None:
    """Moves the weights to a file that an index names."""
    name = "model-00001-of-00001.safetensors"
    (folder / "model.safetensors").rename(folder / name)
    index = {"metadata": {}, "weight_map": dict.fromkeys(load_file(folder / name), name)}
    edit(index["weight_map"])
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_load_model_refuses_weights_that_its_config_does_not_name(damaged):
    change(damaged, lambda weights: weights.update(more=torch.zeros(2)))
    with pytest.raises(
        ValueError, match=r"no weights but those of its config\.json, got also more"
    ):
        load_model(damaged)


def test_load_model_refuses_a_shape_before_it_takes_memory_for_it(damaged):
    path = damaged / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"intermediate_size": 2**22}))
    with pytest.raises(ValueError, match=r"another shape for model\.layers\.0\.mlp\.down_proj"):
        load_model(damaged)


def test_load_model_refuses_integers(damaged):
    change(damaged, lambda w: w.update({"model.norm.weight": torch.zeros(32, dtype=torch.int8)}))
    with pytest.raises(ValueError, match=r"must be bfloat16, .* got model\.norm\.weight as I8"):
        load_model(damaged)


def test_load_model_refuses_an_output_matrix_that_contradicts_its_config(damaged):
    change(damaged, lambda weights: weights.update({"lm_head.weight": torch.zeros(300, 32)}))
    with pytest.raises(ValueError, match="one matrix for lm_head and embed_tokens"):
        load_model(damaged)


def test_load_model_takes_a_decoder_saved_alone(damaged, model_dir):
    def rename(weights):
        for name in list(weights):
            weights[name.removeprefix("model.")] = weights.pop(name)

    change(damaged, rename)
    assert load_model(damaged).fingerprint == load_model(model_dir).fingerprint


def test_load_model_takes_a_pytorch_file(damaged, model_dir):
    as_bin(damaged)
    assert load_model(damaged).fingerprint == load_model(model_dir).fingerprint


class Harmful:
    """Runs a command where it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


@pytest.mark.parametrize("value", [{"a": Harmful()}, [1, 2], {"a": {"b": torch.zeros(1)}}])
def test_load_model_refuses_a_pytorch_file_of_anything_else(damaged, tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    as_bin(damaged, value)
    with pytest.raises(
        (ValueError, OSError), match=r"hold (more than tensors|named tensors alone)"
    ):
        load_model(damaged)
    assert not (tmp_path / "unpickled").exists()


def test_load_model_refuses_a_pytorch_file_that_is_cut_off(damaged):
    as_bin(damaged)
    path = damaged / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(OSError, match=r"pytorch_model.bin cannot be loaded: its weights are damag"):
        load_model(damaged)


def test_load_model_takes_weights_in_several_files(damaged, model_dir):
    as_shards(damaged, lambda files: None)
    assert load_model(damaged).fingerprint == load_model(model_dir).fingerprint


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda files: files.update(a="../a.safetensors"), r"weight_map\.a: .* should match"),
        (lambda files: files.update(a=5), r"weight_map\.a: .* valid string, got 5"),
        (lambda files: files.update(a="gone.safetensors"), "gone.safetensors does not exist"),
        (lambda files: files.update(a=files["model.norm.weight"]), "got a in none"),
        (lambda files: files.pop("model.norm.weight"), "got model.norm.weight in the file alone"),
    ],
)
def test_load_model_refuses_an_index_that_contradicts_its_files(damaged, edit, message):
    as_shards(damaged, edit)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_model(damaged)
