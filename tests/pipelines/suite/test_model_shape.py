"""Shapes of models by name: planned for without their files."""

from pathlib import Path

import pytest

from scopeworks.harvest.model.sites import Site, site_width
from scopeworks.pipelines.suite.model_shape import check_model, model_config
from scopeworks.tests.reference.gemma3_models import build_seeing
from scopeworks.tests.reference.gemma_models import build_tokenizer


@pytest.mark.parametrize(
    ("model", "layers", "d_model", "d_heads", "vocabulary"),
    [
        ("google/gemma-2-2b", 26, 2304, 2048, 256_000),
        ("google/gemma-2-27b-it", 46, 4608, 4096, 256_000),
        ("google/gemma-3-270m", 18, 640, 1024, 262_144),
        ("google/gemma-3-1b-it", 26, 1152, 1024, 262_144),
        ("google/gemma-3-4b-pt", 34, 2560, 2048, 262_208),
        ("google/gemma-3-27b-pt", 62, 5376, 4096, 262_208),
    ],
)
def test_shape_of_a_released_model_is_known(model, layers, d_model, d_heads, vocabulary):
    config = model_config(model)
    assert (config.num_hidden_layers, config.vocab_size) == (layers, vocabulary)
    assert site_width(Site("resid_post", 0), config) == d_model
    assert site_width(Site("attn_out", 0), config) == d_heads


def test_shape_of_a_folder_is_its_language_model_s(tmp_path: Path):
    build_seeing("grouped").save_pretrained(tmp_path)
    build_tokenizer().save_pretrained(tmp_path)
    check_model(str(tmp_path), "model")
    assert model_config(str(tmp_path)).num_hidden_layers == 4


def test_model_of_another_family_is_refused_where_it_is_named(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ValueError, match=r"suite, model: model must be a Gemma 2 or Gemma 3, got"):
        check_model(str(tmp_path), "suite, model")
