"""Single tensors of a model's files, whatever files these are."""

from pathlib import Path

import pytest
import torch

from scopeworks.harvest.model import tensors as module
from scopeworks.harvest.model.loading import load_model, load_tokenizer
from scopeworks.harvest.model.tensors import Tensors
from scopeworks.tests.reference.gemma_models import build_model

ROOT = Path(__file__).parents[3]
NORM = "model.layers.2.post_attention_layernorm.weight"


@pytest.fixture(scope="module")
def model():
    return build_model("grouped")


def check(model, folder: Path) -> None:
    tensors = Tensors(str(folder), model.config)
    weights = model.state_dict()
    for name in (NORM, "model.norm.weight", "model.embed_tokens.weight"):
        torch.testing.assert_close(tensors.read(name), weights[name])
    torch.testing.assert_close(
        tensors.read("model.embed_tokens.weight", 5, 9), weights["model.embed_tokens.weight"][5:9]
    )


def test_one_file(model, tmp_path: Path):
    model.save_pretrained(tmp_path)
    check(model, tmp_path)


def test_several_files(model, tmp_path: Path):
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    check(model, tmp_path)


def test_decoder_saved_alone(model, tmp_path: Path):
    model.config.save_pretrained(tmp_path)
    model.model.save_pretrained(tmp_path)
    check(model, tmp_path)


def test_pickled_file(model, tmp_path: Path):
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    check(model, tmp_path)


def test_low_precision_becomes_float32(model, tmp_path: Path):
    build_model("grouped").to(torch.bfloat16).save_pretrained(tmp_path)
    got = Tensors(str(tmp_path), model.config).read(NORM)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, model.state_dict()[NORM].bfloat16().float())


def test_tensor_that_is_not_there_is_named(model, tmp_path: Path):
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"must have the tensor lm_head\.bias, got none"):
        Tensors(str(tmp_path), model.config).read("lm_head.bias")


def test_folder_without_weights_is_refused(model, tmp_path: Path):
    model.config.save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no model\.safetensors"):
        Tensors(str(tmp_path), model.config)


@pytest.mark.parametrize("numbers", [2**23, 100])
def test_fingerprint_is_the_loaded_models(monkeypatch, numbers):
    """Whatever of a tensor is read at a time; the embedding has more values than are sampled."""
    monkeypatch.setattr(module, "_READ_NUMBERS", numbers * 128)
    folder = ROOT / "pipelines" / "tiny_gemma2"
    _, config = load_tokenizer(folder)
    assert Tensors(str(folder), config).fingerprint() == load_model(folder).fingerprint


def test_fingerprint_of_other_weights_is_another(model_dir, other_model_dir):
    _, config = load_tokenizer(model_dir)
    found = [Tensors(str(path), config).fingerprint() for path in (model_dir, other_model_dir)]
    assert found[0] == load_model(model_dir).fingerprint != found[1]
