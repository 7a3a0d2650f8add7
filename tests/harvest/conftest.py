"""Models and texts that the harvest tests share."""

import shutil
from pathlib import Path

import pytest
import torch

from scopeworks.tests.reference.gemma_models import (
    SHAPES,
    VOCABULARY,
    build_model,
    build_tokenizer,
)


@pytest.fixture(scope="session", params=SHAPES)
def random_model(request):
    """One after the other, the random models, float32."""
    return build_model(request.param)


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory) -> Path:
    """A saved random model (4 layers, d_model 32) with its tokenizer."""
    path = tmp_path_factory.mktemp("models") / "grouped"
    build_model("grouped").save_pretrained(path)
    build_tokenizer().save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def other_model_dir(tmp_path_factory) -> Path:
    """The same shape with other weights."""
    path = tmp_path_factory.mktemp("models") / "other"
    build_model("grouped", seed=1).save_pretrained(path)
    build_tokenizer().save_pretrained(path)
    return path


@pytest.fixture
def damaged(model_dir, tmp_path) -> Path:
    """A copy of the model folder that a test may spoil."""
    return shutil.copytree(model_dir, tmp_path / "model")


@pytest.fixture
def input_ids() -> torch.Tensor:
    """Two sequences of 17 tokens, longer than the short sliding windows."""
    generator = torch.Generator().manual_seed(3)
    return torch.randint(3, VOCABULARY, (2, 17), generator=generator)
