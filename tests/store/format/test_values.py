"""Rounding, quantising and sums against slow float64 versions."""

import numpy as np
import pytest
import torch

from scopeworks.store import ActivationStore, StoreWriter
from scopeworks.store.format.sums import Summation
from scopeworks.store.format.values import Extremes, nonfinite_rows, quantised, to_bits
from scopeworks.tests.store.making import fill, make_store, numbers, rows_of, spec_of


@pytest.fixture
def x() -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(75, 9, generator=generator) * torch.logspace(-30, 30, 9)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_sums_are_float64_sums_of_what_is_stored(x, dtype):
    bits = to_bits(x, dtype)
    sums = Summation(9, dtype, None)
    last = sums.of(bits[64:])
    sums.add(sums.of(bits[:64]))
    sums.add(last)
    exact = x.to(getattr(torch, dtype)).double().numpy()
    found = sums.result()
    np.testing.assert_allclose(found.total, exact.sum(0), rtol=1e-13)
    assert found.squares == pytest.approx((exact**2).sum(), rel=1e-14)


@pytest.mark.parametrize("codec", ["exact", "float32", "int8"])
def test_sums_are_added_in_the_order_of_the_format_to_the_last_bit(tmp_path, codec):
    """Rows one after the other in blocks of 32 from a chunk's start, blocks one after the other."""
    spec = spec_of(codec=codec, chunk_rows=96, shard_rows=192)
    generator = torch.Generator().manual_seed(3)
    rows = {
        site: x * torch.exp2(torch.randint(-30, 30, x.shape, generator=generator))
        for site, x in rows_of(spec).items()
    }
    with StoreWriter.open(tmp_path, spec) as writer:
        for bucket in range(writer.n_buckets):
            fill(writer, rows, bucket)
    store = ActivationStore.open(tmp_path)
    for commit in store.commits:
        first = commit.bucket * spec.bucket_rows
        for site in spec.sites:
            x = store.read(site, first, first + commit.rows).double().numpy()
            total, squares = np.zeros((2, x.shape[1]))
            for chunk in range(0, len(x), 96):
                for start in range(chunk, min(chunk + 96, len(x)), 32):
                    block, block_squares = np.zeros((2, x.shape[1]))
                    for row in x[start : min(start + 32, chunk + 96)]:
                        block, block_squares = block + row, block_squares + row * row
                    total, squares = total + block, squares + block_squares
            assert (commit.sums[site].total == total).all()
            assert commit.sums[site].squares == float(np.add.reduce(squares))


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("value", [float("inf"), -float("inf"), float("nan"), -float("nan")])
def test_every_nonfinite_value_is_found(x, dtype, value):
    x[[4, 70], [0, 8]] = value
    assert nonfinite_rows(to_bits(x, dtype), dtype).tolist() == [4, 70]


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_largest_finite_values_are_finite(dtype):
    largest = torch.finfo(getattr(torch, dtype)).max
    x = torch.tensor([[largest, -largest], [0.0, -0.0]])
    assert len(nonfinite_rows(to_bits(x, dtype), dtype)) == 0


def test_int8_is_the_nearest_step_and_counts_what_is_cut():
    x = torch.tensor([[1.27, 0.0, -254.0], [0.634, 0.0, 3.0], [2.54, 5.0, 1.0]])
    extremes = Extremes(3)
    extremes.add(to_bits(x[:2], "bfloat16"))
    scale = extremes.scale()
    largest = x[:2].bfloat16().float().abs().max(0).values.numpy()
    np.testing.assert_array_equal(scale, np.where(largest > 0, largest / np.float32(127), 1))
    steps, beyond = quantised(to_bits(x, "bfloat16"), scale)
    expected = torch.round(x.bfloat16().double() / torch.from_numpy(scale).double())
    np.testing.assert_array_equal(steps, expected.clamp(-127, 127).numpy())
    assert beyond == int((expected.abs() > 127).sum()) == 1


@pytest.fixture
def int8_store(tmp_path) -> ActivationStore:
    make_store(tmp_path / "acts", codec="int8")
    return ActivationStore.open(tmp_path / "acts")


def test_an_int8_store_is_within_half_a_step(int8_store):
    x = rows_of(int8_store.spec)["resid_post.1"].bfloat16().float()
    found = int8_store.read("resid_post.1", 0, 700)
    error = (found - x[numbers(int8_store, 0, 700)]).abs()
    scale = x[:192].abs().max(0).values / 127
    within = error <= scale / 2 * (1 + 1e-5)
    assert int(int8_store.saturated["resid_post.1"]) == int((~within).sum()) > 0
    beyond = x[numbers(int8_store, 0, 700)].abs() > 127 * scale
    assert bool((within | beyond).all())


def test_an_int8_streams_batches_are_the_stores_values(int8_store):
    whole = int8_store.read("mlp_out.0", 0, 700)
    with int8_store.stream("mlp_out.0", 700) as stream:
        assert torch.equal(next(stream).sort(0).values, whole.sort(0).values)
    x = whole.double()
    torch.testing.assert_close(int8_store.mean("mlp_out.0"), x.mean(0), rtol=1e-12, atol=1e-12)


def test_plain_zarr_and_the_commits_scale_give_the_same_values(int8_store):
    from typing import Any

    import zarr

    steps: Any = zarr.open_group(int8_store.url, mode="r")["sites/mlp_out.0"]
    scale = int8_store.commits[2].sums["mlp_out.0"].scale
    assert scale is not None
    expected = int8_store.read("mlp_out.0", 0, 700).numpy()
    np.testing.assert_array_equal(steps[:].astype(np.float32) * scale, expected)


def test_int8_wants_bucket_0_first(tmp_path):
    spec = spec_of(codec="int8")
    with StoreWriter.open(tmp_path, spec) as writer:
        with pytest.raises(ValueError, match="bucket 0 must be committed before bucket 2"):
            fill(writer, rows_of(spec), 2)
        fill(writer, rows_of(spec), 0)
        fill(writer, rows_of(spec), 2)
        assert writer.committed == {0, 2}
