"""Row numbers: against a plain loop over sequences and positions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopeworks.harvest.rows.plan import Mask, Plan, RowRange


def rows_by_loop(tokens: np.ndarray, mask: Mask) -> list[tuple[int, int, int]]:
    """(token, sequence, position) of every row, in order."""
    return [
        (int(token), s, p)
        for s, sequence in enumerate(tokens)
        for p, token in enumerate(sequence)
        if token not in mask.token_ids and p >= mask.prefix
    ]


def rows_by_part(
    part: RowRange, tokens: np.ndarray, mask: Mask, batch: int
) -> list[tuple[int, int, int]]:
    rows = []
    for block in part.blocks(tokens, mask, batch):
        assert len(block.tokens) <= batch
        rows += zip(
            block.token.tolist(), block.sequence.tolist(), block.position.tolist(), strict=True
        )
    return rows


tokens = st.tuples(st.integers(1, 9), st.integers(1, 6), st.integers(0, 2**32 - 1)).map(
    lambda t: np.random.default_rng(t[2]).integers(0, 6, t[:2]).astype(np.uint32)
)


@given(tokens, st.integers(0, 2), st.integers(1, 7), st.integers(1, 4), st.data())
def test_buckets_cut_the_rows_of_a_plain_loop(array, prefix, bucket_rows, batch, data):
    mask = Mask((0, 1), prefix)
    expected = rows_by_loop(array, mask)
    if not expected:
        with pytest.raises(ValueError, match="rows must be at most 0"):
            Plan(array, mask)
        return
    rows = data.draw(st.one_of(st.none(), st.integers(1, len(expected))))
    whole = data.draw(st.sampled_from([1, bucket_rows]))
    plan = Plan(array, mask, rows, whole)
    full = len(expected) if rows is None else -(-rows // whole) * whole
    assert plan.rows == min(full, len(expected))
    for start in range(0, plan.rows, bucket_rows):
        stop = min(start + bucket_rows, plan.rows)
        part = plan.part(start, stop)
        assert rows_by_part(part, array, mask, batch) == expected[start:stop]


@given(tokens)
def test_plan_of_fewer_rows_reads_no_more_sequences_than_they_need(array):
    mask = Mask((0,))
    expected = rows_by_loop(array, mask)
    if expected:
        plan = Plan(array, mask, 1)
        assert plan.n_sequences == expected[0][1] + 1


def test_plan_refuses_more_rows_than_the_tokens_give():
    with pytest.raises(ValueError, match="at most 6, which is what 2 sequences give, got 7"):
        Plan(np.full((2, 3), 5, dtype=np.uint32), Mask((0,)), 7)
