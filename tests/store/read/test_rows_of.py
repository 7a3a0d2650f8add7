"""Which store rows a batch consists of."""

from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scopeworks.store import ActivationStore


@settings(max_examples=30, deadline=None)
@given(
    batch_rows=st.integers(1, 200),
    before=st.integers(0, 9),
    world=st.integers(1, 3),
    interleave=st.integers(1, 5),
    data=st.data(),
)
def test_the_rows_of_a_batch_are_those_that_the_stream_hands_out(
    made, batch_rows, before, world, interleave, data
):
    store, rank = ActivationStore.open(made.url), data.draw(st.integers(0, world - 1))
    options = {"rank": rank, "world": world}
    with store.stream("mlp_out.0", batch_rows, seed=3, interleave=interleave, **options) as stream:
        for _ in range(before):
            next(stream)
        state = stream.state()
        batch = next(stream).clone()
    rows = store.rows_of(state, batch_rows, **options)
    assert rows.shape == (batch_rows,)
    every = store.read("mlp_out.0", 0, store.rows)
    assert torch.equal(every[torch.from_numpy(rows)], batch)


def test_a_state_of_other_rows_is_refused(made):
    state = {"row": 0, "seed": 0, "interleave": 16, "store_rows": 600}
    with pytest.raises(ValueError, match=r"store_rows must be 700 as store .* has, got a state"):
        ActivationStore.open(made.url).rows_of(state, 10)
    with pytest.raises(ValueError, match=r"state must be what a stream's state\(\) gave, got 'x'"):
        ActivationStore.open(made.url).rows_of(cast(Any, "x"), 10)
    with pytest.raises(ValueError, match=r"rank must be in 0 … 0, got 3"):
        ActivationStore.open(made.url).rows_of(state | {"store_rows": 700}, 10, rank=3)
