"""A random SAE that fires as often."""

import numpy as np
import torch

from scopeworks.evaluate.latents.samples.settings import SampleSettings
from scopeworks.evaluate.latents.samples.twin import random_twin, with_twin
from scopeworks.tests.evaluate.latents.cached_rows import SITE


def test_twin_fires_exactly_as_often_where_it_can(cached):
    rows, fired = cached.store.rows, [0, 1, 17, 900, cached.store.rows]
    twin = random_twin(cached.sae, cached.store, SITE, fired, rows, seed=3)
    counts = (twin.encode(cached.store.read(SITE, 0, rows)) > 0).sum(0).tolist()
    assert counts[:4] == fired[:4] and counts[4] < rows
    assert float(twin.theta.min()) >= 0
    torch.testing.assert_close(twin.W_dec.norm(dim=1), torch.ones(5))
    again = random_twin(cached.sae, cached.store, SITE, fired, rows, seed=3)
    assert all(torch.equal(t, again.tensors()[name]) for name, t in twin.tensors().items())


def test_both_are_collected_from_the_same_text(cached):
    settings = SampleSettings(explain=10, test=10, silent=10)
    samples, twin = with_twin(cached.sae, cached.store, cached.tokens, [0, 3], settings)
    np.testing.assert_array_equal(samples.fired, twin.fired)
    np.testing.assert_array_equal(samples.unigrams.token_rows, twin.unigrams.token_rows)
    assert samples.rows == twin.rows and twin.latents.tolist() == [0, 1]
