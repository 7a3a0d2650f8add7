"""The entries of a batch on the CPU: found latent by latent, then also listed row by row.

An entry is a pair (latent, row) with z > θ − ε/2. All gradients are sums over entries. Owns the
compiled loops that find and list them; the products that they read are made by `encode`.
"""

from typing import NamedTuple

import numpy as np
from numba.core.types import Integer
from numba.extending import overload

from .threads import jit
from .vectors import dot, dot_four

SIXTEEN = np.uint32(16)


class Entries(NamedTuple):
    """Entries latent by latent, rows ascending; latent i owns [start[i], start[i] + length[i]).

    Attributes:
        start, length: int64 [owned latents]; there may be gaps between latents.
        rows: int32 [capacity], the row of each entry.
        z: float32 [capacity], its pre-activation.
        df: float32 [capacity], the gradient of the loss by its f, once known.
    """

    start: np.ndarray
    length: np.ndarray
    rows: np.ndarray
    z: np.ndarray
    df: np.ndarray


class ByRow(NamedTuple):
    """The same entries row by row, latents ascending; row b owns [start[b], start[b + 1]).

    Attributes:
        start: int64 [batch + 1].
        entry: int32 [capacity], where the entry is in `Entries`.
        latent: int32 [capacity], its latent.
    """

    start: np.ndarray
    entry: np.ndarray
    latent: np.ndarray


class Screen(NamedTuple):
    """What bounds the error of a bfloat16 product p of row b with latent i (see `screen`):

    |p − x·w| ≤ row_error[b]·rounded_norm[i] + row_norm[b]·error_norm[i], before p's own rounding.

    row_error and row_norm are float32 [batch]; rounded_norm and error_norm float32 [latents].
    """

    row_error: np.ndarray
    row_norm: np.ndarray
    rounded_norm: np.ndarray
    error_norm: np.ndarray

    def of(self, latents: slice) -> "Screen":
        """The same for some of the latents."""
        return self._replace(
            rounded_norm=self.rounded_norm[latents], error_norm=self.error_norm[latents]
        )


@jit
def block_range(block, n_blocks, n):
    """The part [first, last) of 0 … n that belongs to a block."""
    return block * n // n_blocks, (block + 1) * n // n_blocks


@jit
def mark_entries(block, n_blocks, product, bias, edge, marks, length):
    """marks[i, b] = 1 if product[i, b] + bias[i] > edge[i], else 0; length[i] = number of marks.

    product is float32 [latents, batch]; a row of marks, uint8, is a multiple of eight long.
    """
    batch = product.shape[1]
    first, last = block_range(block, n_blocks, product.shape[0])
    for i in range(first, last):
        add, limit, values, mark = bias[i], edge[i], product[i], marks[i]
        for b in range(batch):
            # Not `>`: a NaN must become an entry, so that it reaches the loss.
            mark[b] = not (values[b] + add <= limit)
        length[i] = close_marks(mark, batch)


@jit
def widen(bits):
    """The float32 value of bfloat16 bits."""
    return np.uint32(np.uint32(bits) << SIXTEEN).view(np.float32)


def float32_of(value):
    """The float32 value of a float32, or of bfloat16 bits; for compiled code only."""
    raise NotImplementedError


@overload(float32_of)
def _float32_of(value):
    """Chooses by the type: integers are bfloat16 bits."""
    if isinstance(value, Integer):
        return lambda value: widen(value)  # noqa: PLW0108 (numba compiles it)
    return lambda value: value


@jit
def mark_proposals(block, n_blocks, product, low, screen, marks, length):
    """`mark_entries` for bfloat16 products, given as their bits, uint16 [latents, batch].

    Marks every pair whose exact product may be above low [latents], by the screen's bound.
    """
    row_error, row_norm, rounded_norm, error_norm = screen
    batch = product.shape[1]
    first, last = block_range(block, n_blocks, product.shape[0])
    for i in range(first, last):
        limit, alpha, omega = low[i], rounded_norm[i], error_norm[i]
        values, mark = product[i], marks[i]
        for b in range(batch):
            # The most that the exact product can be.
            high = widen(values[b]) + row_error[b] * alpha + row_norm[b] * omega
            mark[b] = not (high <= limit)
        length[i] = close_marks(mark, batch)


@jit
def close_marks(mark, batch):
    """Zeroes a row of marks beyond the batch; returns the number of marks in it."""
    n = np.int32(0)
    mark[batch:] = 0
    for b in range(batch):
        n += np.int32(mark[b])
    return n


@jit
def list_marked(mark, rows):
    """rows = the marked positions, ascending."""
    # Eight marks are read as one word: most words have none.
    words = mark.view(np.uint64)
    at = 0
    for w in range(words.size):
        if words[w]:
            for b in range(8 * w, 8 * w + 8):
                if mark[b]:
                    rows[at] = b
                    at += 1


@jit
def list_entries(
    block, n_blocks, marks, has_z, product, bias, theta, start, length, rows, z, fired
):  # fmt: skip
    """Writes the rows of the marked pairs, latent by latent.

    If has_z, also writes z = product (float32, or bfloat16 bits) + bias, and fired[i], the number
    of rows with z > θ.
    """
    first, last = block_range(block, n_blocks, marks.shape[0])
    for i in range(first, last):
        list_marked(marks[i], rows[start[i] : start[i] + length[i]])
        if has_z:
            active = 0
            for e in range(start[i], start[i] + length[i]):
                z[e] = float32_of(product[i, rows[e]]) + bias[i]
                active += not (z[e] <= theta[i])
            fired[i] = active


@jit
def keep_entries(block, n_blocks, x, W, bias, edge, theta, entries, fired):
    """Recomputes every proposal's z in float32 and keeps those above edge.

    z = W[i]·x[b] + bias[i], with x float32 [batch, d_in] and W float32 [latents, d_in]. Those kept
    move to the front of their latent's range; length[i] becomes their number.
    """
    start, length, rows, z, _ = entries
    first, last = block_range(block, n_blocks, W.shape[0])
    values = np.empty(4, np.float32)
    for i in range(first, last):
        at, stop, w, active = start[i], start[i] + length[i], W[i], 0
        for e in range(start[i], stop, 4):
            n = min(4, stop - e)
            if n == 4:
                a, b, c, d = rows[e], rows[e + 1], rows[e + 2], rows[e + 3]
                dot_four(values, w, x[a], x[b], x[c], x[d])
            else:
                for k in range(n):
                    values[k] = dot(w, x[rows[e + k]])
            for k in range(n):
                value = values[k] + bias[i]
                if not value <= edge[i]:
                    rows[at], z[at] = rows[e + k], value
                    at += 1
                    active += not (value <= theta[i])
        length[i], fired[i] = at - start[i], active


@jit
def list_by_row(entries, by_row):
    """Fills `by_row` from `entries` by a counting sort on one thread (a few entries per µs)."""
    start, count, rows, _, _ = entries
    row_start, entry, latent = by_row
    row_start[:] = 0
    for i in range(count.size):
        for e in range(start[i], start[i] + count[i]):
            row_start[rows[e] + 1] += 1
    for b in range(row_start.size - 1):
        row_start[b + 1] += row_start[b]
    at = row_start[:-1].copy()
    for i in range(count.size):
        for e in range(start[i], start[i] + count[i]):
            b = rows[e]
            entry[at[b]], latent[at[b]] = e, i
            at[b] += 1
