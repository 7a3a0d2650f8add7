"""Streams: order against the reference, resume, ranks, epochs, buffers."""

import json
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scopeworks.store import ActivationStore, DamagedStoreError
from scopeworks.store.read.array_reader import ArrayReader
from scopeworks.store.read.stream_order import Order
from scopeworks.tests.reference.store_order import epoch_rows, permutation, window_rows
from scopeworks.tests.store.making import SITES, Made, make_store

SITE = "mlp_out.0"


def expected_rows(store: ActivationStore, made: Made, seed: int, interleave: int, epochs: int):
    buckets = [commit.rows for commit in store.commits]
    x, start = store.read(SITE, 0, store.rows), [0]
    for rows in buckets:
        start.append(start[-1] + rows)
    order = [
        start[bucket] + row
        for epoch in range(epochs)
        for bucket, row in epoch_rows(buckets, made.spec.chunk_rows, seed, interleave, epoch)
    ]
    return x[torch.tensor(order)]


@pytest.mark.parametrize("n", [0, 1, 2, 100])
def test_permutation_equals_the_reference(n):
    from scopeworks.store.format.permutations import permutation as fast

    assert fast(n, 2**63 - 1, 3, 7, 9).tolist() == permutation(n, 2**63 - 1, 3, 7, 9)


@settings(max_examples=60, deadline=None)
@given(
    buckets=st.lists(st.integers(1, 23), min_size=1, max_size=7),
    chunk=st.integers(1, 9),
    seed=st.integers(0, 2**63 - 1),
    interleave=st.integers(1, 8),
    stripe=st.integers(1, 4),
    data=st.data(),
)
def test_order_equals_the_reference_from_any_row(buckets, chunk, seed, interleave, stripe, data):
    order, total = Order(buckets, chunk, seed, interleave, stripe), sum(buckets)
    whole = [
        row for e in range(3) for row in epoch_rows(buckets, chunk, seed, interleave, e, stripe)
    ]
    start = data.draw(st.integers(0, 2 * total))
    n = data.draw(st.integers(1, total))
    pieces = order.pieces(start, n)
    found = [
        (piece.bucket, piece.chunk * chunk + piece.first + i)
        for piece in pieces
        for i in range(piece.rows)
    ]
    assert found == whole[start : start + n]
    assert sorted(whole[:total]) == [(b, r) for b, n in enumerate(buckets) for r in range(n)]


@pytest.mark.parametrize("batch_rows", [1, 32, 100, 333, 700])
@pytest.mark.parametrize("interleave", [1, 3])
def test_batches_follow_the_reference_over_epochs(made, batch_rows, interleave):
    store = ActivationStore.open(made.url)
    n = 2 * 700 // batch_rows if batch_rows > 1 else 90
    with store.stream(SITE, batch_rows, seed=4, interleave=interleave) as stream:
        batches = torch.cat([next(stream).clone() for _ in range(n)])
    expected = expected_rows(store, made, 4, interleave, 2)
    assert torch.equal(batches, expected[: len(batches)])


@pytest.mark.parametrize("shuffle_rows", [1, 7, 100, 700, 9999])
def test_windows_follow_the_reference_over_epochs(made, shuffle_rows):
    store = ActivationStore.open(made.url)
    labels = store.labels(0, store.rows)
    places = list(zip(labels.sequence.tolist(), labels.position.tolist(), strict=True))
    expected = [r for epoch in range(3) for r in window_rows(places, 4, shuffle_rows, epoch)]
    with store.stream(SITE, 90, seed=4, shuffle_rows=shuffle_rows) as stream:
        batches = torch.cat([next(stream).clone() for _ in range(20)])
        state = stream.state()
        later = next(stream).clone()
    x = store.read(SITE, 0, store.rows)
    assert torch.equal(batches, x[torch.tensor(expected[:1800])])
    assert state["shuffle_rows"] == shuffle_rows
    with store.stream(SITE, 90, seed=4, shuffle_rows=shuffle_rows, state=state) as again:
        assert torch.equal(next(again), later)
    assert store.rows_of(state, 90).tolist() == expected[1800:1890]


def test_windows_of_one_row_are_the_sequences_one_after_the_other(made):
    store = ActivationStore.open(made.url)
    with store.stream(SITE, 700, seed=9, shuffle_rows=1) as stream:
        assert torch.equal(next(stream), made.rows[SITE].bfloat16().float())
        assert torch.equal(next(stream), made.rows[SITE].bfloat16().float())


def test_a_window_of_all_rows_is_one_shuffle_of_them(made):
    store = ActivationStore.open(made.url)
    with store.stream(SITE, 700, seed=9, shuffle_rows=700) as stream:
        first, second = next(stream).clone(), next(stream).clone()
    whole = made.rows[SITE].bfloat16().float().sort(0).values
    assert torch.equal(first.sort(0).values, whole) and torch.equal(second.sort(0).values, whole)
    assert not torch.equal(first, second)


@settings(max_examples=25, deadline=None)
@given(
    batch_rows=st.integers(1, 300),
    before=st.integers(0, 6),
    ahead=st.integers(1, 5),
    ahead_later=st.integers(1, 5),
    threads=st.sampled_from([1, 2, 3, 16]),
)
def test_resumed_batches_equal_uninterrupted_ones(
    made, batch_rows, before, ahead, ahead_later, threads
):
    store = ActivationStore.open(made.url)
    with store.stream(SITE, batch_rows, seed=1, prefetch=ahead) as stream:
        whole = [next(stream).clone() for _ in range(before + 4)]
    with store.stream(SITE, batch_rows, seed=1, prefetch=ahead) as first:
        for _ in range(before):
            next(first)
        state = first.state()
    with store.stream(
        SITE, batch_rows, seed=1, state=state, prefetch=ahead_later, threads=threads
    ) as second:
        for batch in whole[before:]:
            assert torch.equal(next(second), batch)


@settings(max_examples=15, deadline=None)
@given(world=st.integers(1, 4), batch_rows=st.integers(1, 60))
def test_rank_slices_are_disjoint_and_complete(made, world, batch_rows):
    store = ActivationStore.open(made.url)
    steps = 700 // (world * batch_rows)
    with store.stream(SITE, batch_rows * world) as whole:
        expected = torch.cat([next(whole).clone() for _ in range(steps)])
    streams = [store.stream(SITE, batch_rows, rank=rank, world=world) for rank in range(world)]
    parts = [next(stream).clone() for _ in range(steps) for stream in streams]
    assert torch.equal(torch.cat(parts), expected)
    states = [stream.state() for stream in streams]
    assert all(state == states[0] for state in states)
    for stream in streams:
        stream.close()


def test_several_sites_are_row_aligned(made):
    store = ActivationStore.open(made.url)
    with store.stream(list(SITES), 50, seed=2) as both, store.stream(SITE, 50, seed=2) as one:
        for _ in range(20):
            batch, alone = next(both), next(one)
            assert list(batch) == list(SITES)
            assert torch.equal(batch[SITE], alone)
            rows = {
                tuple(row.tolist()): i for i, row in enumerate(made.rows[SITE].bfloat16().float())
            }
            at = torch.tensor([rows[tuple(row.tolist())] for row in batch[SITE]])
            assert torch.equal(
                batch["resid_post.1"], made.rows["resid_post.1"].bfloat16().float()[at]
            )


def test_after_an_error_the_next_call_tries_again(made, monkeypatch):
    with ActivationStore.open(made.url).stream(SITE, 64) as stream:
        expected = [next(stream).clone() for _ in range(8)]
    plain, failures = ArrayReader.read_chunk, [True, False, False, True, False, True]

    def shaky(self, chunk, out):
        if failures and failures.pop():
            raise DamagedStoreError("not now")
        return plain(self, chunk, out)

    monkeypatch.setattr(ArrayReader, "read_chunk", shaky)
    found, refused = [], 0
    with ActivationStore.open(made.url).stream(SITE, 64) as stream:
        while len(found) < 8:
            try:
                found.append(next(stream).clone())
            except DamagedStoreError:
                refused += 1
    assert 1 <= refused <= 3
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_batches_that_are_kept_never_change(made):
    store = ActivationStore.open(made.url)
    with store.stream(SITE, 64, prefetch=1) as stream:
        kept, copies = [], []
        for _ in range(40):
            batch = next(stream)[3:]
            kept.append(batch)
            copies.append(batch.clone())
    assert all(torch.equal(a, b) for a, b in zip(kept, copies, strict=True))


@pytest.mark.parametrize("codec", ["exact", "float32", "int8"])
def test_bfloat16_batches_are_the_float32_ones_rounded(tmp_path, codec):
    url = make_store(tmp_path / "acts", codec=codec).url
    store = ActivationStore.open(url)
    with store.stream(SITE, 90) as full, store.stream(SITE, 90, dtype="bfloat16") as half:
        for _ in range(20):
            batch = next(half)
            assert batch.dtype == torch.bfloat16
            assert torch.equal(batch, next(full).bfloat16())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_are_pinned_where_cuda_is(made):
    with ActivationStore.open(made.url).stream(SITE, 90) as stream:
        assert next(stream).is_pinned()


def test_dtypes_of_torch_are_taken(made):
    store = ActivationStore.open(made.url)
    with store.stream(SITE, 16, dtype=torch.bfloat16) as stream:
        assert next(stream).dtype == torch.bfloat16
    with pytest.raises(ValueError, match="dtype must be float32 or bfloat16, got 'float16'"):
        store.stream(SITE, 16, dtype=torch.float16)


def test_another_seed_is_another_order_of_the_same_rows(made):
    store = ActivationStore.open(made.url)
    with store.stream(SITE, 700, seed=0) as a, store.stream(SITE, 700, seed=1) as b:
        first, second = next(a).clone(), next(b).clone()
    assert not torch.equal(first, second)
    assert torch.equal(first.sort(0).values, second.sort(0).values)


def test_epochs_differ_in_order(made):
    with ActivationStore.open(made.url).stream(SITE, 700) as stream:
        assert not torch.equal(next(stream).clone(), next(stream))
        assert stream.state() == {
            "epoch": 2,
            "row": 1400,
            "seed": 0,
            "store_rows": 700,
            "interleave": 16,
        }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"site": "mlp_out.9"}, "site must be one of resid_post.1, mlp_out.0, got 'mlp_out.9'"),
        ({"batch_rows": 701}, "batch_rows must be at most the store's 700 rows"),
        ({"batch_rows": 0}, "batch_rows must be a whole number from 1 on, got 0"),
        ({"batch_rows": "1024"}, "batch_rows must be a whole number from 1 on, got '1024'"),
        ({"site": 3}, "site must be one of resid_post.1, mlp_out.0, got 3"),
        ({"site": None}, "site must be one of resid_post.1, mlp_out.0, got None"),
        ({"rank": 2, "world": 2}, "rank must be in 0 … 1, got 2"),
        ({"dtype": "float16"}, "dtype must be float32 or bfloat16, got 'float16'"),
        ({"prefetch": 0}, "prefetch must be a whole number from 1 on, got 0"),
        (
            {"seed": 1, "state": {"seed": 0, "store_rows": 700, "row": 0}},
            "seed must be 0 as in the stream's state, got 1",
        ),
        ({"state": "x"}, r"state must be what a stream's state\(\) gave, got 'x'"),
        (
            {"state": {"epoch": 1}},
            r"state must be what a stream's state\(\) gave, got {'epoch': 1}",
        ),
        (
            {"state": {"seed": 0, "store_rows": 700, "row": -1, "interleave": 16}},
            "row of the stream's state must be a whole number from 0 on, got -1",
        ),
        ({"seed": -1}, "seed must be a whole number from 0 to 18446744073709551615, got -1"),
        ({"seed": 2**64}, "seed must be a whole number from 0 to 18446744073709551615, got 18446"),
        ({"seed": 1.5}, "seed must be a whole number from 0 to 18446744073709551615, got 1.5"),
        ({"seed": "0", "shuffle_rows": 8}, "seed must be a whole number .*, got '0'"),
        ({"seed": None}, "seed must be a whole number .*, got None"),
        ({"site": []}, "site must be at least one of resid_post.1, mlp_out.0, got none"),
        ({"shuffle_rows": 1.5}, "shuffle_rows must be a whole number from 1 on, got 1.5"),
        (
            {"state": {"seed": 0, "store_rows": 600, "row": 0, "interleave": 16}},
            "store_rows must be 600 as in the stream's state, got 700",
        ),
        ({"interleave": 0}, "interleave must be a whole number from 1 on, got 0"),
        ({"shuffle_rows": 0}, "shuffle_rows must be a whole number from 1 on, got 0"),
        ({"shuffle_rows": 8, "interleave": 2}, "interleave has no effect with shuffle_rows"),
        (
            {"shuffle_rows": 8, "state": {"seed": 0, "store_rows": 700, "row": 0}},
            "shuffle_rows must be None as in the stream's state, got 8",
        ),
    ],
)
def test_wrong_arguments_are_refused(made, options, message):
    options = {"site": SITE, "batch_rows": 10} | options
    with pytest.raises(ValueError, match=message):
        ActivationStore.open(made.url).stream(**options)


def test_a_state_is_json_whatever_kind_of_integers_it_comes_from(made):
    store, n = ActivationStore.open(made.url), cast(Any, np.int64)
    with store.stream(SITE, n(70), n(3), rank=n(0), world=n(2), interleave=n(2)) as stream:
        next(stream)
        state = json.loads(json.dumps(stream.state()))
    assert state == {"epoch": 0, "row": 140, "seed": 3, "store_rows": 700, "interleave": 2}
    assert store.rows_of(state, n(70)).shape == (70,)


def test_a_closed_stream_says_so(made):
    with ActivationStore.open(made.url).stream(SITE, 70) as stream:
        next(stream)
    with pytest.raises(ValueError, match="stream is closed; make another one"):
        next(stream)
