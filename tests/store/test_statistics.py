"""Statistics and mixing against obvious computations."""

import numpy as np
import pytest
import torch

from scopeworks.store import ActivationStore
from scopeworks.store.statistics import mixing, site_statistics


def test_statistics_of_a_whole_store_equal_numpys(made):
    store = ActivationStore.open(made.url)
    x = store.read("resid_post.1", 0, 700).double().numpy()
    found = site_statistics(store, "resid_post.1", 700)
    assert found.rows == 700
    expected = np.quantile(np.linalg.norm(x, axis=1), (0.01, 0.5, 0.99))
    np.testing.assert_allclose(found.norm_quantiles, expected, rtol=1e-12)
    centred = x - x.mean(0)
    kurtosis = ((centred**4).mean(0) / (centred**2).mean(0) ** 2).mean()
    assert found.kurtosis == pytest.approx(kurtosis, rel=1e-9)
    rms = np.sqrt((x**2).mean(0))
    outliers = np.flatnonzero(rms > 6 * np.sort(rms)[(len(rms) - 1) // 2])
    assert sorted(found.outlier_channels) == outliers.tolist()
    share = (x[:, outliers] ** 2).sum() / (x**2).sum()
    assert found.outlier_energy == pytest.approx(share, rel=1e-9)


def test_mixing_counts_pairs_of_one_sequence(made):
    store = ActivationStore.open(made.url)
    sequence = store.labels(0, 700).sequence
    rows_by_value = {
        tuple(row.tolist()): int(s)
        for row, s in zip(store.read("resid_post.1", 0, 700), sequence, strict=True)
    }
    found = mixing(store, batch_rows=100, batches=3, seed=2)
    shares = []
    with store.stream("resid_post.1", 100, seed=2) as stream:
        for _ in range(3):
            batch = torch.tensor([rows_by_value[tuple(row.tolist())] for row in next(stream)])
            same = batch[:, None] == batch[None, :]
            shares.append((int(same.sum()) - 100) / (100 * 99))
    assert found.measured == pytest.approx(np.mean(shares), rel=1e-12)
    assert found.perfect == pytest.approx(70 * 10 * 9 / (700 * 699), rel=1e-12)
    assert (found.batches, found.batch_rows) == (3, 100)
