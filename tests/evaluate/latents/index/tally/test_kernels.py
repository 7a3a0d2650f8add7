"""Counts, strongest firings and draws that do not depend on the order of what comes."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scopeworks.evaluate.latents.index.tally import kernels
from scopeworks.evaluate.latents.index.tally.kernels import BINS, RowFacts
from scopeworks.evaluate.latents.index.tally.tally import RowFirings, Size, Tally

SIZE = Size(d_sae=3, top=4, drawn=5, position_bins=2, sampled=1.0)
EXPONENTS = st.integers(-40, 40)


def tally_of(firings: list[tuple[int, float, int]], blocks: int = 1) -> Tally:
    """Of (latent, value, place), a row for each; the document is the place's tens."""
    tally = Tally(SIZE)
    for some in np.array_split(np.arange(len(firings)), blocks):
        place = np.array([firings[i][2] for i in some], np.int64)
        key = np.empty(len(some), np.uint64)
        kernels.row_keys(0, place, key)
        rows = RowFacts(place, place // 10, place.astype(np.int32), place % 2, key)
        latent = np.array([firings[i][0] for i in some], np.int32)
        value = np.array([firings[i][1] for i in some], np.float32)
        tally.add(rows, RowFirings(np.arange(len(some) + 1), latent, value))
    return tally


def merged(parts: list[Tally]) -> Tally:
    whole = Tally(SIZE)
    for part in parts:
        whole.merge(part)
    return whole


def content(tally: Tally) -> dict[str, Any]:
    """All of a tally but sums, whose last bits depend on the order; a draw is a set."""
    arrays = {name: tensor.numpy() for name, tensor in tally.tensors().items()}
    columns = [arrays.pop(f"drawn.{name}") for name in ("key", "place", "value", "token")]
    draws = [
        sorted(zip(*(column[j, :n].tolist() for column in columns), strict=True))
        for j, n in enumerate(arrays["drawn.n"])
    ]
    names = ("counts.total", "counts.squares", "sample.key", "sample.n", "sample.latent")
    for name in (*names, "sample.value"):
        arrays.pop(name)
    return {name: array.tolist() for name, array in arrays.items()} | {"draws": draws}


firing_lists = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.tuples(st.integers(1, 2**23 - 1), EXPONENTS).map(lambda p: float(p[0]) * 2.0 ** p[1]),
        st.integers(0, 999),
    ),
    max_size=40,
    unique_by=lambda item: item[2],
)


@given(firing_lists, st.randoms(use_true_random=False), st.integers(1, 5), st.integers(1, 4))
def test_order_blocks_and_parts_change_nothing(firings, random, blocks, parts):
    whole = content(tally_of(firings))
    other = list(firings)
    random.shuffle(other)
    assert content(tally_of(other, blocks)) == whole
    some = [tally_of(other[i::parts], blocks) for i in range(parts)]
    assert content(merged(some)) == whole


@given(firing_lists)
def test_what_is_kept_is_what_it_says(firings):
    tally = tally_of(firings, 2)
    for j in range(3):
        mine = [(np.float32(v), place) for latent, v, place in firings if latent == j]
        check_histogram(tally, j, [float(v) for v, _ in mine])
        best: dict[int, tuple[float, int]] = {}
        for value, place in sorted(mine, key=lambda m: (-m[0], m[1])):
            best.setdefault(place // 10, (float(value), place))
        n = int(tally.top.n[j])
        found = zip(tally.top.value[j, :n].tolist(), tally.top.place[j, :n].tolist(), strict=True)
        assert list(found) == list(best.values())[: SIZE.top]
        keys = {draw_key(place, j): place for _, place in mine}
        n = int(tally.drawn.n[j])
        places = [keys[key] for key in sorted(keys)[: SIZE.drawn]]
        assert sorted(tally.drawn.place[j, :n].tolist()) == sorted(places)


def check_histogram(tally: Tally, j: int, values: list[float]) -> None:
    """Bins of a power of two, as narrow as the largest value allows."""
    if not values:
        assert not tally.counts.histogram[j].any()
        return
    width = 2.0 ** int(tally.counts.exponent[j])
    assert BINS // 2 * width <= max(values) < BINS * width
    expected = np.bincount([int(v / width) for v in values], minlength=BINS)
    assert tally.counts.histogram[j].tolist() == expected.tolist()


def draw_key(place: int, latent: int) -> int:
    key = np.empty(1, np.uint64)
    kernels.row_keys(0, np.array([place], np.int64), key)
    return int(kernels.firing_key(key[0], latent))


def test_keys_are_even():
    key = np.empty(20000, np.uint64)
    kernels.row_keys(7, np.arange(20000), key)
    keys = np.array([kernels.firing_key(k, 3) for k in key[:4000]])
    assert (keys >= 0).all()
    for draws, most in ((key / 2**64, 1), (keys / 2**63, 1)):
        assert abs(draws.mean() - most / 2) < 0.02 and abs(draws.std() - 12**-0.5) < 0.01
    other = np.empty(20000, np.uint64)
    kernels.row_keys(8, np.arange(20000), other)
    assert abs(np.corrcoef(key / 2**64, other / 2**64)[0, 1]) < 0.03


def test_a_tally_is_read_as_it_was_written():
    tally = tally_of([(0, 1.5, 3), (1, 2.0, 14), (1, 7.0, 25)])
    again = Tally.from_tensors(SIZE, tally.tensors())
    assert content(again) == content(tally) and again.rows == 3
