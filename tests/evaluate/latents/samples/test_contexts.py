"""Which windows can be drawn, and that no document is in both halves."""

import numpy as np
import pytest

from scopeworks import ActivationStore
from scopeworks.evaluate.latents.samples.contexts import cut
from scopeworks.harvest.rows.documents import documents_of
from scopeworks.store import TokenStore
from scopeworks.tests.evaluate.latents.cached_rows import cached_rows
from scopeworks.tests.evaluate.latents.planted import Planted, plant


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted") / "it", n_documents=40)


def test_no_document_is_in_both_halves(planted):
    store, tokens = ActivationStore.open(planted.store), TokenStore.open(planted.tokens)
    found = cut(store, tokens, store.rows, 16, 0)
    sequence, start = (at.repeat(16) for at in (found.sequence, found.start))
    position = start + np.tile(np.arange(16), len(found))
    document = documents_of(tokens, "train").of(sequence, position).reshape(-1, 16)
    sides = [
        set(document[found.tests == side][found.known[found.tests == side]]) for side in (0, 1)
    ]
    assert min(map(len, sides)) > 5 and not sides[0] & sides[1]
    # Windows across documents of both halves, and texts that were there before, are left out.
    n_windows = len(np.unique(store.labels(0, store.rows).sequence)) * (tokens.context // 16)
    assert len(found) < n_windows
    assert len(np.unique(found.tokens, axis=0)) == len(found)


def test_windows_lie_side_by_side_and_rows_find_theirs(cached):
    found = cut(cached.store, cached.tokens, cached.store.rows, 32, 0)
    assert set(found.start.tolist()) == {0, 32}
    labels = cached.store.labels(0, cached.store.rows)
    at = found.of(labels)
    assert (at[labels.position >= 64] == -1).all()
    inside = at >= 0
    np.testing.assert_array_equal(found.sequence[at[inside]], labels.sequence[inside])
    offset = labels.position[inside] - found.start[at[inside]]
    assert ((offset >= 0) & (offset < 32)).all()
    np.testing.assert_array_equal(found.tokens[at[inside], offset], labels.token[inside])
    assert inside.sum() == found.known.sum()


def test_one_document_cannot_explain_and_test(tmp_path):
    few = cached_rows(tmp_path, n_sequences=8)
    store = few.store
    for seed in range(500):
        try:
            cut(store, few.tokens, store.rows, 32, seed)
        except ValueError as error:
            assert "of several documents, got" in str(error)
            return
    pytest.fail("some seed puts all eight sequences into one half")
