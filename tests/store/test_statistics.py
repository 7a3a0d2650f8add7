"""Statistics, mixing and their picture against obvious computations."""

from pathlib import Path

import numpy as np
import pytest
import torch

from scopeworks.store import ActivationStore, StoreWriter
from scopeworks.store.mixing import Mixing, mixing
from scopeworks.store.plot import check_path, plot
from scopeworks.store.statistics import SiteStatistics, site_statistics
from scopeworks.tests.store.making import CHUNK, fill, spec_of


def check(found: SiteStatistics, x: np.ndarray) -> None:
    assert found.rows == len(x)
    np.testing.assert_allclose(np.sort(found.norms), np.sort(np.linalg.norm(x, axis=1)), rtol=1e-12)
    expected = np.quantile(np.linalg.norm(x, axis=1), (0.01, 0.5, 0.99))
    np.testing.assert_allclose(found.norm_quantiles, expected, rtol=1e-12)
    np.testing.assert_allclose(found.rms, np.sqrt((x**2).mean(0)), rtol=1e-12)
    centred = x - x.mean(0)
    with np.errstate(invalid="ignore"):
        kurtosis = (centred**4).mean(0) / (centred**2).mean(0) ** 2
    np.testing.assert_allclose(found.channel_kurtosis, kurtosis, rtol=1e-6)
    assert found.kurtosis == pytest.approx(np.nanmean(kurtosis), rel=1e-6)
    rms = np.sqrt((x**2).mean(0))
    outliers = np.flatnonzero(rms > 6 * np.median(rms))
    assert found.outlier_channels == sorted(outliers, key=lambda channel: -rms[channel])
    share = (x[:, outliers] ** 2).sum() / (x**2).sum()
    assert found.outlier_energy == pytest.approx(share, rel=1e-9)


@pytest.mark.parametrize("site", ["resid_post.1", "mlp_out.0"])
def test_statistics_of_a_whole_store_equal_numpys(made, site):
    store = ActivationStore.open(made.url)
    x = store.read(site, 0, 700).double().numpy()
    check(site_statistics(store, site, 700), x)
    assert site_statistics(store, "resid_post.1", 700).outlier_channels


def test_a_large_mean_costs_no_digits_and_a_constant_channel_has_no_kurtosis(tmp_path):
    spec = spec_of(sites={"x": 8}, codec="float32")
    rows = torch.randn(spec.rows, 8, generator=torch.Generator().manual_seed(0))
    rows[:, 3] += 1e4
    rows[:, 5] = 7
    rows[:, 6] = 0
    with StoreWriter.open(tmp_path, spec) as writer:
        for bucket in range(writer.n_buckets):
            fill(writer, {"x": rows}, bucket)
    found = site_statistics(ActivationStore.open(tmp_path), "x", 700)
    assert np.flatnonzero(np.isnan(found.channel_kurtosis)).tolist() == [5, 6]
    check(found, rows.double().numpy())


def test_a_sample_is_of_whole_chunks_spread_over_the_store(made, monkeypatch):
    store = ActivationStore.open(made.url)
    read, ranges = store.read, []

    def seen(site: str, start: int, stop: int) -> torch.Tensor:
        ranges.append((start, stop))
        return read(site, start, stop)

    monkeypatch.setattr(store, "read", seen)
    found = site_statistics(store, "mlp_out.0", 150)
    assert found.rows == sum(stop - start for start, stop in ranges) == 160
    assert (ranges[0][0], ranges[-1][1]) == (0, 700)
    assert all(stop - start <= CHUNK for start, stop in ranges)
    x = np.concatenate([read("mlp_out.0", *part).numpy() for part in ranges]).astype(np.float64)
    check(found, x)


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


def test_the_perfect_shuffle_of_a_large_store_is_judged_by_some_buckets(made, monkeypatch):
    store = ActivationStore.open(made.url)
    labels, counted = store.labels, []

    def seen(start: int, stop: int):
        counted.append(stop - start)
        return labels(start, stop)

    monkeypatch.setattr(store, "labels", seen)
    found = mixing(store, batch_rows=50, batches=1, counted_rows=400)
    assert sum(counted) == 50 + 192 + 124  # the batch, the first bucket and the last
    assert found.perfect == pytest.approx(70 * 10 * 9 / (700 * 699), rel=0.02)


def test_a_plot_is_written(made, tmp_path):
    store = ActivationStore.open(made.url)
    found = [site_statistics(store, site, 700) for site in store.sites]
    found.append(SiteStatistics("dead", np.zeros(5), np.zeros(3), np.full(3, np.nan)))
    plot(found, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_plot_that_could_not_be_written_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(ValueError, match=r"plot must end in .png, .svg, .pdf, got a.jpeg"):
        check_path(Path("a.jpeg"))
    with pytest.raises(ValueError, match=r"plot must be in a folder that exists, got .*nowhere"):
        check_path(tmp_path / "nowhere" / "a.png")


def test_mixing_without_any_pair_has_no_ratio():
    assert Mixing(0.0, 0.0, 2, 100).line() == "mixing: no two rows share a sequence (2 batches)"
    assert "(ratio 2.00," in Mixing(0.2, 0.1, 2, 100).line()
