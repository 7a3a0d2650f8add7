"""Packing: every token once, specials in their places, order by seed."""

import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopeworks.harvest.tokens.packing import Packer, Spool, Wrapper, sequence_order

BOS, EOS = 2, 1
token_lists = st.lists(st.lists(st.integers(3, 300), max_size=30), max_size=12)


@given(token_lists, st.integers(2, 9), st.data())
def test_packed_sequences_are_bos_and_the_stream_with_eos_between(documents, context, data):
    packer = Packer(context, BOS, EOS)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(documents)), max_size=3)))
    parts = [documents[a:b] for a, b in zip([0, *cuts], [*cuts, len(documents)], strict=True)]
    packed = np.concatenate([packer.add(map(np.array, part)) for part in parts])
    stream = [t for i, d in enumerate(documents) for t in ([EOS] if i else []) + d]
    n_full = len(stream) // (context - 1)
    assert packed.shape == (n_full, context)
    assert packed.dtype == np.uint32
    assert (packed[:, 0] == BOS).all()
    assert packed[:, 1:].reshape(-1).tolist() == stream[: n_full * (context - 1)]
    assert packer.left_over == len(stream) - n_full * (context - 1)


def test_packer_refuses_a_context_without_room():
    with pytest.raises(ValueError, match="context must be at least 2 tokens, got 1"):
        Packer(1, BOS, EOS)


@given(st.integers(0, 40), st.integers(0, 2**40), st.integers(1, 7))
def test_spool_gives_every_sequence_once_in_the_seeds_order(n, seed, step):
    rows = np.arange(n * 4, dtype=np.uint32).reshape(n, 4)
    with Spool(4) as spool:
        for part in np.array_split(rows, 3):
            spool.append(part)
        spool.permute(seed, "train")
        read = [spool[start : start + step] for start in range(0, n, step)]
    got = np.concatenate([np.empty((0, 4), np.uint32), *read])
    assert np.array_equal(got, rows[sequence_order(n, seed, "train")])
    assert sorted(got[:, 0].tolist()) == rows[:, 0].tolist()


def test_sequence_order_depends_on_seed_and_split():
    order = sequence_order(50, 0, "train")
    assert np.array_equal(order, sequence_order(50, 0, "train"))
    assert not np.array_equal(order, sequence_order(50, 1, "train"))
    assert not np.array_equal(order, sequence_order(50, 0, "held_out"))


@given(token_lists, st.integers(1, 6))
def test_wrapped_documents_have_sequences_of_their_own(documents, length):
    packed = Wrapper(length + 3, [BOS, 9], [8], pad=0).add(map(np.array, documents))
    texts: list[list[int]] = []
    for sequence in packed.tolist():
        text = [t for t in sequence[2:] if t != 0]
        assert sequence[:2] == [BOS, 9]
        assert text.pop() == 8
        assert sequence[2 + len(text) + 1 :] == [0] * (length - len(text))
        texts.append(text)
    assert texts == [d[i : i + length] for d in documents for i in range(0, len(d), length)]


def test_wrapper_refuses_a_context_without_room():
    with pytest.raises(ValueError, match="must have room for text beside 2 tokens before and 1"):
        Wrapper(3, [BOS, 9], [8], pad=0)


def test_spool_refuses_to_be_read_in_reading_order():
    with Spool(4) as spool, pytest.raises(ValueError, match="permute first"):
        spool[0:1]


def test_full_disk_of_a_spool_is_an_error_that_names_its_folder(tmp_path: Path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with (
        pytest.raises(OSError, match=f"too large: '{tmp_path}'"),
        Spool(4, tmp_path) as spool,
    ):
        spool.append(np.zeros((5, 4), dtype=np.uint32))
        resource.setrlimit(resource.RLIMIT_FSIZE, (9, before[1]))
        try:
            spool.permute(0, "train")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
