"""The map: near directions are near one another, the same for the same neighbours."""

import numpy as np
import torch

from scopeworks.evaluate.latents.weights.nearest import nearest
from scopeworks.evaluate.latents.weights.plane import plane

GROUPS, SIZE = 6, 40


def groups_of_directions() -> torch.Tensor:
    """Six bundles of directions in 32 dimensions."""
    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(GROUPS, 1, 32, generator=draw)
    return (centres + 0.3 * torch.randn(GROUPS, SIZE, 32, generator=draw)).flatten(0, 1)


def test_bundles_stay_together():
    near = nearest(groups_of_directions(), None, 8).latent
    places = plane(near)
    assert places.dtype == np.float32 and places.min() == 0 and places.max() == 1
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    group = np.repeat(np.arange(GROUPS), SIZE)
    nearest_in_plane = distances.argsort(1)[:, :5]
    assert (group[nearest_in_plane] == group[:, None]).mean() > 0.98


def test_same_neighbours_give_the_same_map():
    near = nearest(groups_of_directions(), None, 8).latent
    np.testing.assert_array_equal(plane(near), plane(near.copy()))
    assert (plane(near) != plane(near, seed=1)).any()


def test_direction_without_neighbours_has_a_place():
    near = np.array([[1, -1], [0, -1], [-1, -1]])
    assert np.isfinite(plane(near)).all()
    assert plane(np.full((1, 2), -1)).tolist() == [[0, 0]]
