"""The CPU step's compiled loops over rows: the encoder's input, decoding, and differentiating."""

from typing import NamedTuple

import numpy as np

from .entries import block_range
from .threads import jit
from .vectors import (
    ONE,
    ZERO,
    add_difference,
    add_few,
    add_four,
    add_scaled,
    distance,
    dot,
    dot_four,
    round_row,
    set_four,
    subtract,
)

END = 1 << 62  # a shard after all others


@jit
def prepare_rows(block, n_blocks, x, b_dec, gamma, out, out_bits, rounded, row_error, row_norm):
    """out = x − b_dec (or x, if b_dec is empty), and unless `rounded` is empty its bfloat16 copy
    and the terms of its bound, as in `screen.row_terms`.

    out is float32 [batch, d_in] and out_bits the same memory as uint32. rounded takes the bits of
    the copy, uint16 [batch, d_in]; row_error and row_norm are float32 [batch].
    """
    values = np.empty(x.shape[1], np.float32)  # the copy's row as float32
    safety = ONE + gamma
    first, last = block_range(block, n_blocks, x.shape[0])
    for b in range(first, last):
        if b_dec.size:
            subtract(out[b], x[b], b_dec)
        else:
            out[b] = x[b]
        if rounded.size:
            round_row(out_bits[b], rounded[b], values.view(np.uint32))
            # (‖x' − x‖ + γ·‖x'‖)·(1 + γ) and ‖x‖·(1 + γ)
            error = distance(values, out[b]) + gamma * np.sqrt(dot(values, values))
            row_error[b] = error * safety
            row_norm[b] = np.sqrt(dot(out[b], out[b])) * safety


class Decoder(NamedTuple):
    """What x̂ is summed from.

    Attributes:
        theta: float32 [latents], the thresholds.
        W_dec: float32 [latents, d_out].
        first, last: the latents to sum over, [first, last).
        shard_size: latents of a shard.
        shard: the number of the shard that latent 0 is in.
    """

    theta: np.ndarray
    W_dec: np.ndarray
    first: int
    last: int
    shard_size: int
    shard: int


class Targets(NamedTuple):
    """What Σ f·W_dec is compared with: target − b_dec (− skip).

    target is float32 [batch, d_out], b_dec [d_out], skip [batch, d_out] or empty.
    """

    target: np.ndarray
    b_dec: np.ndarray
    skip: np.ndarray
    scale: np.float32
    """2/batch: the gradient by x̂ is scale · residual."""


class Rows(NamedTuple):
    """What a pass over the rows finds.

    Attributes:
        residual: float32 [batch, d_out]: Σ f·W_dec after decoding; after differentiating
            Σ f·W_dec + b_dec (+ skip) − target.
        loss: float32 [batch], ‖residual‖².
        l0: int64 [batch], ‖f‖₀.
        column_sum: float32 [blocks, d_out], each block's part of Σ residual.
    """

    residual: np.ndarray
    loss: np.ndarray
    l0: np.ndarray
    column_sum: np.ndarray


@jit
def decode_row(  # noqa: PLR0912 (in one piece: numba counts references at every call)
    out, tree, held, f, e, last, z, entry, latent, theta, W_dec, size, shard
):
    """out = Σ f·W_dec over a row's entries [e, last), in the order of the shards' tree; returns
    how many entries are active.

    Works like `shards.TreeSum`. held[k] is the first shard of the k-th subtree that waits to be
    added; the sum of the first is in `out`, those of the others in tree[1], tree[2] …
    """
    depth, active, beyond = 0, 0, size
    while True:
        while e < last and latent[e] >= beyond:
            shard, beyond = shard + 1, beyond + size
        shard = shard if e < last else END
        # Add up the subtrees that end before this shard: of shards a < b < c, a and b meet below
        # b and c if the highest bit of a^b is lower than that of b^c.
        while depth > 1:
            below, above = held[depth - 2] ^ held[depth - 1], held[depth - 1] ^ shard
            if below >= above or below >= (below ^ above):
                break
            add_scaled(out if depth == 2 else tree[depth - 2], ONE, tree[depth - 1])
            depth -= 1
        if e == last:
            break
        total, fresh = tree[depth] if depth else out, True
        held[depth] = shard
        depth += 1
        stop = e + 1
        while stop < last and latent[stop] < beyond:
            stop += 1
        # The shard's own entries [e, stop), four at a time.
        while e < stop:
            n = min(4, stop - e)
            for k in range(n):
                value = z[entry[e + k]]
                inactive = value <= theta[latent[e + k]]
                active += not inactive
                f[k] = ZERO if inactive else value
            if n < 4:
                i, j, k = latent[e], latent[e + n // 2], latent[e + n - 1]
                add_few(total, fresh, n, f, W_dec[i], W_dec[j], W_dec[k])
            else:
                i, j, k, m = latent[e], latent[e + 1], latent[e + 2], latent[e + 3]
                if fresh:
                    set_four(total, f, W_dec[i], W_dec[j], W_dec[k], W_dec[m])
                else:
                    add_four(total, f, W_dec[i], W_dec[j], W_dec[k], W_dec[m])
            fresh = False
            e += n
    if depth == 0:
        out[:] = ZERO
    return active


@jit
def row_gradients(out, f, e, last, df, entry, latent, W_dec, scale):
    """df = scale·(out·W_dec row) of a row's entries [e, last), four at a time; out is the row's
    residual."""
    while e < last:
        n = min(4, last - e)
        # A last group of fewer than four repeats its last entry: so every entry is summed by the
        # same code, and its bits do not depend on how many other entries of the row are here.
        i, j = latent[e], latent[e + min(1, n - 1)]
        k, m = latent[e + min(2, n - 1)], latent[e + n - 1]
        dot_four(f, out, W_dec[i], W_dec[j], W_dec[k], W_dec[m])
        for at in range(n):
            df[entry[e + at]] = scale * f[at]
        e += n


@jit
def pass_rows(block, n_blocks, decodes, differentiates, entries, by_row, decoder, targets, rows):
    """Decodes rows, differentiates them, or both.

        decode          x̂ = Σ f·W_dec over the latents [first, last);  ‖f‖₀
        differentiate   residual = x̂ + b_dec (+ skip) − target;  ‖residual‖²;  its column sums;
                        df = 2/batch · residual·W_dec of every entry

    A process with all latents does both at once: the second pass over a row's decoder rows finds
    them in cache. Ranks that share the latents decode, add up x̂, then differentiate. All use this
    one compiled loop, so that they get the same bits.
    """
    z, df = entries.z, entries.df
    row_start, entry, latent = by_row
    theta, W_dec, lowest, highest, size, shard = decoder
    target, b_dec, skip, scale = targets
    residual, loss, l0, column_sum = rows
    width = residual.shape[1]
    f, tree, held = np.zeros(4, np.float32), np.empty((8, width), np.float32), np.empty(8, np.int64)
    total = column_sum[block]
    if differentiates:
        total[:] = ZERO
    start, stop = block_range(block, n_blocks, residual.shape[0])
    for b in range(start, stop):
        out, e, last = residual[b], row_start[b], row_start[b + 1]
        while e < last and latent[e] < lowest:
            e += 1
        while e < last and latent[last - 1] >= highest:
            last -= 1
        if decodes:
            l0[b] = decode_row(
                out, tree, held, f, e, last, z, entry, latent, theta, W_dec, size, shard
            )
        if differentiates:
            add_difference(out, b_dec, target[b])
            if skip.size:
                add_scaled(out, ONE, skip[b])
            loss[b] = dot(out, out)
            add_scaled(total, ONE, out)
            row_gradients(out, f, e, last, df, entry, latent, W_dec, scale)
