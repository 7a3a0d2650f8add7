"""Nearest directions: ties, rows of zeros, fewer than asked for."""

import numpy as np
import pytest
import torch

from scopeworks.evaluate.latents.weights import nearest as nearest_module
from scopeworks.evaluate.latents.weights.nearest import nearest


def test_equal_rows_go_by_their_index():
    rows = torch.eye(4)[[0, 1, 0, 0, 2]]
    found = nearest(rows, None, 3)
    assert found.latent[0].tolist() == [2, 3, 1]
    assert found.latent[3].tolist() == [0, 2, 1]
    assert found.cosine[0].tolist() == [1, 1, 0]


def test_fewer_than_asked_for_are_filled_with_minus_one():
    found = nearest(torch.eye(3), None, 8)
    assert found.latent.shape == (3, 3)
    assert found.latent[0].tolist() == [1, 2, -1]
    assert found.cosine[0, -1] == 0


def test_length_makes_no_difference():
    rows = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    scaled = rows * torch.linspace(1e-6, 1e6, 20)[:, None]
    np.testing.assert_array_equal(nearest(rows, None, 4).latent, nearest(scaled, None, 4).latent)


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch):
    rows = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    whole = nearest(rows, None, 4)
    monkeypatch.setattr(nearest_module, "_BLOCK_BYTES", 4 * 50 * 3)
    np.testing.assert_array_equal(nearest(rows, None, 4).latent, whole.latent)


def test_opposite_directions_are_listed_last():
    found = nearest(torch.tensor([[1.0, 0], [-1, 0], [0, 1]]), None, 2)
    assert found.latent[0].tolist() == [2, 1]
    assert found.cosine[0].tolist() == [0, -1]
