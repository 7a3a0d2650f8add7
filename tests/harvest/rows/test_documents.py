"""Which document a token is of, against the documents themselves and a slow twin."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopeworks.harvest.rows import documents as module
from scopeworks.harvest.rows.documents import documents_of, numbered
from scopeworks.harvest.settings import TokenizeSettings
from scopeworks.harvest.tokens.packing import sequence_order
from scopeworks.harvest.tokens.run import tokenize_text
from scopeworks.store import TokenStore

EOS = 1


def slow(sequences: np.ndarray, order: list[int] | None) -> list[list[int]]:
    """The documents of every token, counted one token after the other in the order of reading."""
    found = [[0] * sequences.shape[1] for _ in sequences]
    number = 0
    by_reading = range(len(sequences)) if order is None else np.argsort(order)
    for sequence in by_reading:
        for position, token in enumerate(sequences[sequence]):
            found[sequence][position] = number
            number += int(token == EOS)
        number += order is None
    return found


@given(st.integers(1, 7), st.integers(2, 6), st.integers(0, 50), st.booleans(), st.integers(1, 20))
def test_numbers_are_those_of_counting(n, context, seed, packed, scan):
    sequences = np.random.default_rng(seed).integers(0, 4, (n, context)).astype(np.uint32)
    order = sequence_order(n, seed, "train") if packed else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SCAN_TOKENS", scan)
        documents = numbered(sequences, EOS, order)
    sequence, position = np.indices(sequences.shape).reshape(2, -1)
    expected = np.reshape(slow(sequences, None if order is None else order.tolist()), -1)
    np.testing.assert_array_equal(documents.of(sequence, position), expected)
    assert documents.across == packed


def test_without_eos_each_sequence_is_a_document():
    documents = numbered(np.ones((3, 5), np.uint32), None, None)
    assert documents.of(np.array([0, 0, 2]), np.array([0, 4, 1])).tolist() == [0, 0, 2]


@pytest.fixture
def text_dir(tmp_path):
    """Twenty-six documents, each of a letter of its own, from none to many sequences long."""
    (tmp_path / "text").mkdir()
    for i in range(26):
        (tmp_path / "text" / f"{i:02}.txt").write_text(chr(97 + i) * (5 + 37 * i % 120))
    return tmp_path / "text"


def tokenized(model_dir, text_dir, out, **changes) -> TokenStore:
    values = {"context": 24, "held_out": 0.3, "seed": 5} | changes
    given = {"model": str(model_dir), "text": [str(text_dir)], "out": str(out)}
    tokenize_text(TokenizeSettings.model_validate(given | values))
    return TokenStore.open(out)


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_tokens_of_a_text_get_one_number_wherever_they_are(model_dir, text_dir, tmp_path, split):
    store = tokenized(model_dir, text_dir, tmp_path / "tokens")
    documents = documents_of(store, split)
    assert documents.across
    ids = np.asarray(store.sequences(split))
    sequence, position = np.nonzero(ids > 2)
    numbers = documents.of(sequence, position)
    letters = ids[sequence, position]
    pairs = set(zip(letters.tolist(), numbers.tolist(), strict=True))
    assert (
        len(pairs) == len({letter for letter, _ in pairs}) == len({number for _, number in pairs})
    )
    spread = [len(set(sequence[letters == letter].tolist())) for letter in np.unique(letters)]
    assert len(spread) > 4 and max(spread) > 2


def test_documents_of_their_own_sequences_end_with_them(model_dir, text_dir, tmp_path):
    store = tokenized(model_dir, text_dir, tmp_path / "tokens", packing="document")
    documents = documents_of(store, "train")
    n = store.splits["train"]
    assert not documents.across
    numbers = documents.of(np.arange(n), np.full(n, 3))
    assert len(set(numbers.tolist())) == n


def test_a_store_of_unknown_origin_is_numbered_by_sequence(tmp_path):
    store = TokenStore.create(tmp_path / "tokens", context=4, bos=2, eos=EOS, pad=0)
    store.write({"train": np.array([[2, 5, 1, 6], [2, 7, 8, 9]])})
    documents = documents_of(store, "train")
    assert not documents.across
    assert documents.of(np.array([0, 0, 1]), np.array([1, 3, 1])).tolist() == [0, 1, 2]
