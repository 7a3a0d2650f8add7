"""The largest entries of rows, with ties."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from scopeworks.evaluate.latents.weights.largest import largest


@given(st.lists(st.lists(st.integers(0, 3), min_size=6, max_size=6), min_size=1), st.integers(0, 8))
def test_ties_go_to_the_lower_index(rows: list[list[int]], k: int):
    values, where = largest(torch.tensor(rows, dtype=torch.float32), k)
    for row, found, indices in zip(rows, values.tolist(), where.tolist(), strict=True):
        expected = sorted(range(6), key=lambda i: (-row[i], i))[:k]
        assert indices == expected
        assert found == [row[i] for i in expected]
