"""Sizes that are chosen: never absurd ones, whatever bucket size is asked for."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopeworks.settings import resolve
from scopeworks.store import StoreSpec
from scopeworks.store.format.spec import choose_sizes, even_bucket_rows


def spec(
    width: int, bucket_rows: int, chunk_rows: int | None = None, shard_rows: int | None = None
) -> StoreSpec:
    sizes = {"bucket_rows": bucket_rows, "chunk_rows": chunk_rows, "shard_rows": shard_rows}
    return resolve(StoreSpec, None, sites={"x": width}, rows=10_000_000, **sizes)


def test_a_prime_bucket_size_is_refused_with_the_nearest_good_one():
    with pytest.raises(
        ValueError, match=r"^bucket_rows must have divisors for its chunks"
    ) as error:
        spec(2304, 1_000_003)
    assert "got 1000003, which gives chunks of 1 and shards of 1; take 1000" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_bucket_of_a_prime_number_of_chunks_is_refused():
    """It would have an object for every chunk."""
    with pytest.raises(ValueError, match="gives chunks of 256 and shards of 256; take "):
        spec(2304, 256 * 509)


@given(width=st.integers(1, 20_000), bucket_rows=st.integers(1, 3_000_000))
def test_sizes_are_near_their_targets_or_a_nearby_bucket_size_is_named(width, bucket_rows):
    try:
        found = spec(width, bucket_rows)
    except ValueError as error:
        better = int(re.findall(r"take (\d+)", str(error))[0])
        assert abs(better - bucket_rows) < 2048
        found = spec(width, better)
    chunk_bytes = 2 * width * found.chunk_rows
    assert found.chunk_rows == found.bucket_rows or 8 * 2 * chunk_bytes >= min(2**21, width * 2**12)
    assert found.n_buckets * found.bucket_rows >= 10_000_000


def test_any_sizes_may_be_given_outright():
    found = spec(64, 1_000_003, chunk_rows=1_000_003, shard_rows=1_000_003)
    assert found.chunk_rows == 1_000_003


def test_small_buckets_are_one_chunk():
    assert spec(16, 97).chunk_rows == 97


@given(st.integers(1, 2**33), st.integers(1, 2**14))
def test_even_buckets_leave_little_to_fill_up_and_suit_chunks_and_shards(rows, width):
    size, default = even_bucket_rows(rows), choose_sizes(width, rows)["bucket_rows"]
    assert size <= default
    assert -rows % size < rows / 64 + default / 64
    StoreSpec(sites={"resid_post.1": width}, rows=rows, bucket_rows=size)


def test_even_buckets_are_the_default_ones_where_these_fit():
    assert even_bucket_rows(9 * 2**16) == 2**16
