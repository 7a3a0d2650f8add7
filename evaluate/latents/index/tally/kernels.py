"""Loops over single firings, compiled by numba.

Owns how a firing enters a latent's counts, its strongest examples and its even draw. No sum is
reordered: the same firings in the same order give the same bits. The functions call no compiled
function of another file, so that numba's cache notices every change.
"""

import math
from typing import NamedTuple

import numpy as np

from .....caches import compiled

jit = compiled(nogil=True, error_model="numpy")
fast = compiled(nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
"""For dot products, whose sums may be spread over SIMD lanes."""

BINS = 64
"""Bins of a histogram; the largest value is always in the upper half of them."""


class FiringSums(NamedTuple):
    """Sums over a latent's firings."""

    fired: np.ndarray  # int64 [d_sae]
    total: np.ndarray  # float64 [d_sae], Σ f
    squares: np.ndarray  # float64 [d_sae], Σ f²
    smallest: np.ndarray  # float32 [d_sae]
    largest: np.ndarray  # float32 [d_sae]
    exponent: np.ndarray  # int32 [d_sae]: bin k counts k·2^e ≤ f < (k + 1)·2^e
    histogram: np.ndarray  # int64 [d_sae, BINS]
    by_position: np.ndarray  # int64 [d_sae, position bins]


class Top(NamedTuple):
    """A latent's strongest firings, one of each document, strongest first; ties by place."""

    n: np.ndarray  # int32 [d_sae]
    value: np.ndarray  # float32 [d_sae, most]
    place: np.ndarray  # int64 [d_sae, most]: sequence · context + position
    document: np.ndarray  # int64 [d_sae, most]


class EvenDraw(NamedTuple):
    """An even draw of a latent's firings: those with the smallest keys, as a heap with the largest
    key on top."""

    n: np.ndarray  # int32 [d_sae]
    key: np.ndarray  # int64 [d_sae, most]
    place: np.ndarray  # int64 [d_sae, most]
    value: np.ndarray  # float32 [d_sae, most]
    token: np.ndarray  # int32 [d_sae, most]


class RowFacts(NamedTuple):
    """Place, document, token, position bin and key of each row of a block."""

    place: np.ndarray  # int64 [rows]
    document: np.ndarray  # int64 [rows]
    token: np.ndarray  # int32 [rows]
    bin: np.ndarray  # int64 [rows], of their positions
    key: np.ndarray  # uint64 [rows]


@jit
def _mixed(word):
    """The bits of a 64-bit word, thoroughly mixed (the finaliser of splitmix64)."""
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


@jit
def row_keys(seed, place, key):
    """key[r] = a hash of (seed, place[r]), uint64."""
    start = _mixed(np.uint64(seed) + np.uint64(0x9E3779B97F4A7C15))
    for r in range(place.size):
        key[r] = _mixed(start ^ np.uint64(place[r]) * np.uint64(0x9E3779B97F4A7C15))


@jit
def firing_key(row_key, latent):
    """A hash of a row's key and a latent, int64 and not negative."""
    word = _mixed(row_key ^ np.uint64(latent + 1) * np.uint64(0xD1B54A32D192ED03))
    return np.int64(word >> np.uint64(1))


@jit
def count_entries(block, n_blocks, z, bias, theta, per_row):
    """per_row[r] = number of latents that fire in row r, z + bias > max(θ, 0)."""
    for r in range(block * z.shape[0] // n_blocks, (block + 1) * z.shape[0] // n_blocks):
        n = 0
        for j in range(z.shape[1]):
            f = z[r, j] + bias[j]
            n += (f > theta[j]) & (f > np.float32(0))
        per_row[r] = n


@jit
def list_entries(block, n_blocks, z, bias, theta, start, latent, value):
    """Lists the firings of `count_entries`: row r's are at [start[r], start[r + 1]), by latent."""
    for r in range(block * z.shape[0] // n_blocks, (block + 1) * z.shape[0] // n_blocks):
        e = start[r]
        if e == start[r + 1]:
            continue
        for j in range(z.shape[1]):
            f = z[r, j] + bias[j]
            if f > theta[j] and f > np.float32(0):
                latent[e], value[e] = j, f
                e += 1


@jit
def add_entries(start, latent, value, rows, counts, top, drawn):
    """Adds a block's firings to the counts, the strongest firings and the even draw."""
    fired, total, squares, smallest, largest, exponent, histogram, by_position = counts
    weakest, last = top.value[:, -1], top.value.shape[1] - 1
    highest, most = drawn.key[:, 0], drawn.key.shape[1]
    scale = np.empty(fired.size, np.float64)  # 1 / width of the bins, exactly 2^-e
    for j in range(fired.size):
        scale[j] = math.ldexp(1.0, -exponent[j])
    for r in range(rows.place.size):
        bin_, row_key = rows.bin[r], rows.key[r]
        for e in range(start[r], start[r + 1]):
            j, f = latent[e], value[e]
            wide = np.float64(f)
            if f < smallest[j] or fired[j] == 0:
                smallest[j] = f
            if f > largest[j]:
                widen(counts, j, exponent_of(wide))
                scale[j], largest[j] = math.ldexp(1.0, -exponent[j]), f
            fired[j] += 1
            total[j] += wide
            squares[j] += wide * wide
            histogram[j, np.int64(wide * scale[j])] += 1
            by_position[j, bin_] += 1
            # Most firings are neither among the strongest nor drawn. That is decided here, because
            # a call costs more than all of the above.
            if top.n[j] <= last or f >= weakest[j]:
                offer_top(top, j, f, rows.place[r], rows.document[r])
            key = firing_key(row_key, j)
            if drawn.n[j] < most or key < highest[j]:
                offer_drawn(drawn, j, key, rows.place[r], f, rows.token[r])


@jit
def exponent_of(largest):
    """The exponent of the bins' width that puts the largest value into bin 32 … 63."""
    return math.frexp(largest)[1] - 6


@jit
def widen(counts, j, exponent):
    """Joins neighbouring bins until their width has at least this exponent.

    It is exact, because all widths are powers of two.
    """
    if counts.largest[j] == 0:
        counts.exponent[j] = exponent
    while counts.exponent[j] < exponent:
        counts.exponent[j] += 1
        for k in range(BINS // 2):
            pair = counts.histogram[j, 2 * k] + counts.histogram[j, 2 * k + 1]
            counts.histogram[j, k] = pair
        counts.histogram[j, BINS // 2 :] = 0


@jit
def add_counts(counts, other):
    """Adds another part's counts."""
    for j in range(counts.fired.size):
        if other.fired[j] == 0:
            continue
        if counts.fired[j] == 0 or other.smallest[j] < counts.smallest[j]:
            counts.smallest[j] = other.smallest[j]
        largest = max(counts.largest[j], other.largest[j])
        exponent = exponent_of(np.float64(largest))
        widen(counts, j, exponent)
        widen(other, j, exponent)
        counts.largest[j] = largest
        counts.fired[j] += other.fired[j]
        counts.total[j] += other.total[j]
        counts.squares[j] += other.squares[j]
        counts.histogram[j] += other.histogram[j]
        counts.by_position[j] += other.by_position[j]


@jit
def _before(value, place, other_value, other_place):
    """Whether a firing is stronger than another, or as strong and earlier."""
    return value > other_value or (value == other_value and place < other_place)


@jit
def offer_top(top, j, value, place, document):
    """Puts a firing among the strongest, if it is one of them and the strongest of its document."""
    n, most = top.n[j], top.value.shape[1]
    if n == most and not _before(value, place, top.value[j, n - 1], top.place[j, n - 1]):
        return
    at = 0
    while at < n and top.document[j, at] != document:
        at += 1
    if at < n and not _before(value, place, top.value[j, at], top.place[j, at]):
        return
    if at == n and n == most:  # replaces the weakest
        at = n - 1
    elif at == n:
        top.n[j] += 1
    while at > 0 and _before(value, place, top.value[j, at - 1], top.place[j, at - 1]):
        top.value[j, at] = top.value[j, at - 1]
        top.place[j, at] = top.place[j, at - 1]
        top.document[j, at] = top.document[j, at - 1]
        at -= 1
    top.value[j, at], top.place[j, at], top.document[j, at] = value, place, document


@jit
def offer_drawn(drawn, j, key, place, value, token):
    """Puts a firing into the draw, if its key is among the smallest."""
    n, most = drawn.n[j], drawn.key.shape[1]
    if n == most and key >= drawn.key[j, 0]:
        return
    keys, at = drawn.key[j], 0
    if n < most:  # up from the bottom of the heap
        drawn.n[j], at = n + 1, n
        while at > 0 and keys[(at - 1) // 2] < key:
            _move(drawn, j, (at - 1) // 2, at)
            at = (at - 1) // 2
    else:  # down from its top
        while 2 * at + 1 < n:
            child = 2 * at + 1
            child += child + 1 < n and keys[child + 1] > keys[child]
            if keys[child] <= key:
                break
            _move(drawn, j, child, at)
            at = child
    keys[at], drawn.place[j, at] = key, place
    drawn.value[j, at], drawn.token[j, at] = value, token


@jit
def _move(drawn, j, source, target):
    """Moves a firing within the heap."""
    drawn.key[j, target] = drawn.key[j, source]
    drawn.place[j, target] = drawn.place[j, source]
    drawn.value[j, target] = drawn.value[j, source]
    drawn.token[j, target] = drawn.token[j, source]


@jit
def add_top(top, other):
    """Adds another part's strongest firings."""
    for j in range(top.n.size):
        for i in range(other.n[j]):
            offer_top(top, j, other.value[j, i], other.place[j, i], other.document[j, i])


@jit
def add_drawn(drawn, other):
    """Adds another part's draw."""
    for j in range(drawn.n.size):
        for i in range(other.n[j]):
            value, token = other.value[j, i], other.token[j, i]
            offer_drawn(drawn, j, other.key[j, i], other.place[j, i], value, token)
