"""Statistics, mixing and their picture against obvious computations."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from scopeworks.store import ActivationStore, StoreWriter
from scopeworks.store.read.variance import total_variance
from scopeworks.store.tools.describe import describe
from scopeworks.store.tools.mixing import Mixing, mixing
from scopeworks.store.tools.plot import check_path, drawn, plot
from scopeworks.store.tools.statistics import SiteStatistics, site_statistics
from scopeworks.store.tools.verify import verify_store
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


def test_a_store_may_be_named_and_its_rows_are_a_number(made):
    assert site_statistics(made.url, "mlp_out.0", 700).rows == 700
    with pytest.raises(ValueError, match=r"rows must be a whole number from 1 on, got 1\.5"):
        site_statistics(made.url, "mlp_out.0", cast(Any, 1.5))


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


def test_mixing_of_rows_in_the_order_of_their_sequences(made):
    store = ActivationStore.open(made.url)
    found = mixing(store, batch_rows=100, batches=7, shuffle_rows=1)
    assert found.measured == pytest.approx(10 * 10 * 9 / (100 * 99), rel=1e-12)  # 10 sequences each
    shuffled = mixing(store, batch_rows=100, batches=7, shuffle_rows=700)
    assert shuffled.measured == pytest.approx(shuffled.perfect, rel=0.3)


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


SCALES = [1e-30, 1e-24, 1.0, 1e19, 1e30]


def stored(path: Path, rows: torch.Tensor, codec: str) -> ActivationStore:
    spec = spec_of(sites={"x": rows.shape[1]}, codec=codec)
    with StoreWriter.open(path, spec) as writer:
        for bucket in range(writer.n_buckets):
            fill(writer, {"x": rows}, bucket)
    return ActivationStore.open(path)


def normal_rows(mean: float = 0.0) -> torch.Tensor:
    return torch.randn(spec_of().rows, 24, generator=torch.Generator().manual_seed(2)) + mean


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("codec", "mean"), [("exact", 0), ("float32", 100), ("int8", 0)])
def test_figures_are_those_of_the_rows_at_any_scale(tmp_path, codec, mean, scale):
    store = stored(tmp_path / "a", normal_rows(mean) * scale, codec)
    x = store.read("x", 0, 700).double().numpy()
    squares = (x**2).sum(1).mean()
    assert store.normaliser("x") == pytest.approx(squares**0.5, rel=1e-13)
    np.testing.assert_allclose(store.mean("x"), x.mean(0), rtol=1e-9, atol=1e-12 * scale)
    total = sum(commit.sums["x"].total for commit in store.commits)
    squares = sum(commit.sums["x"].squares for commit in store.commits)
    variance = ((x - x.mean(0)) ** 2).sum(1).mean()
    assert total_variance(total, squares, 700) == pytest.approx(variance, rel=1e-9)
    check(site_statistics(store, "x", 700), x)
    assert verify_store(store.url).problems == []
    if codec == "exact":
        plot([site_statistics(store, "x", 700)], tmp_path / "a.svg")


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("codec", ["exact", "float32", "int8"])
def test_constant_rows_are_named_at_any_scale(tmp_path, codec, scale):
    rows = torch.full((700, 24), 300 * scale) * torch.linspace(0.5, 1, 24)
    store = stored(tmp_path / "a", rows, codec)
    total = sum(commit.sums["x"].total for commit in store.commits)
    squares = sum(commit.sums["x"].squares for commit in store.commits)
    assert total_variance(total, squares, 700) == 0
    found = site_statistics(store, "x", 700)
    assert "no channel varies" in found.line()
    if codec == "float32":
        plot([found], tmp_path / "a.svg")
    assert any("all rows are the same" in line for line in describe(store))


def test_rows_that_are_all_0_are_described(tmp_path):
    store = stored(tmp_path / "a", torch.zeros(700, 24), "exact")
    assert any(line.endswith("all rows are 0") for line in describe(store))
    plot([site_statistics(store, "x", 700)], tmp_path / "a.svg")


@pytest.mark.parametrize("spread", [0.0, 1e-7, 1e-5, 1e-3])
def test_ticks_say_whole_values_however_close_the_norms_are(tmp_path, spread):
    x = torch.nn.functional.normalize(normal_rows(), dim=1) * (48 * (1 + spread * normal_rows()))
    figure = drawn([site_statistics(stored(tmp_path / "a", x, "float32"), "x", 700)])
    figure.canvas.draw()
    for axes in figure.axes:
        assert axes.xaxis.get_offset_text().get_text() == ""
        assert axes.yaxis.get_offset_text().get_text() == ""
    labels = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert len(set(labels)) == len(labels)
    assert any(label.startswith("48") for label in labels)
