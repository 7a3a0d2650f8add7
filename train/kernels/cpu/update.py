"""The CPU step's compiled loops from the entries to the updated parameters.

First over rows (decode, then differentiate: residual, df), then over latents: one pass per touched
latent sums its gradients, projects, applies Adam and renormalises while everything is in cache.
"""

from typing import NamedTuple

import numpy as np

from .entries import block_range
from .threads import jit
from .vectors import (
    ONE,
    ZERO,
    adam,
    adam_decoder,
    adam_log,
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
    weighted_sum,
)

END = 1 << 62  # a shard behind all others


class Latents(NamedTuple):
    """What a latent owns, as arrays over latents: its parameters, or their second moments."""

    W_enc: np.ndarray
    b_enc: np.ndarray
    W_dec: np.ndarray
    theta: np.ndarray


class Rounded(NamedTuple):
    """A bfloat16 copy of W_enc's rows (as bits), and the norms that bound its error; or empty.

    rounded_norm[i] = ‖copy of row i‖, error_norm[i] = ‖copy of row i − row i‖.
    """

    W_enc_bits: np.ndarray
    copy: np.ndarray
    rounded_norm: np.ndarray
    error_norm: np.ndarray


class Rates(NamedTuple):
    """Scalars of the update.

    Attributes:
        adam: float32 (lr, 1 − β2, 1/(1 − β2^t), eps).
        beta2: float64.
        now: the update's number t, from 1.
        log_theta: whether Adam moves log θ.
        theta_floor: smallest θ where it moves θ.
    """

    adam: tuple[np.float32, np.float32, np.float32, np.float32]
    beta2: float
    now: int
    log_theta: bool
    theta_floor: np.float32


class Decoder(NamedTuple):
    """What x̂ is made of: thresholds and decoder rows of the latents [first, last), their shards'
    size, and the number of the shard that latent 0 is in."""

    theta: np.ndarray
    W_dec: np.ndarray
    first: int
    last: int
    shard_size: int
    shard: int


class Targets(NamedTuple):
    """What x̂ is compared with: target − b_dec (− skip, [batch, d_out] or empty)."""

    target: np.ndarray
    b_dec: np.ndarray
    skip: np.ndarray
    scale: np.float32
    """2/batch: the gradient by x̂ is scale · residual."""


class Rows(NamedTuple):
    """What is found out about the rows.

    Attributes:
        residual: float32 [batch, d_out]: x̂ after decoding, then x̂ + b_dec (+ skip) − target.
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
    """out = Σ f·W_dec over a row's entries [e, last), in the shards' tree; how many are active.

    Within a shard four entries at a time. Before the next one, the subtrees that end there are
    added up as `shards.TreeSum` does it: of shards a < b < c, a and b meet below b and c if the
    highest bit of a^b is the lower one. The first subtree is in `out`, the others in `tree`.
    """
    depth, active, beyond = 0, 0, size
    while True:
        while e < last and latent[e] >= beyond:
            shard, beyond = shard + 1, beyond + size
        shard = shard if e < last else END
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
    """df = scale·residual·W_dec of a row's entries [e, last), four at a time. Behind the last entry
    it comes again, so that all are summed alike, whoever owns the others of the row."""
    while e < last:
        n = min(4, last - e)
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

    Both at once where all latents are here: then the second pass over a row's decoder rows finds
    them in cache. Else x̂ is added up over the ranks in between. One compiled loop either way, so
    that both give the same bits.
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


@jit
def window_gradient(z, df, rows, theta, penalties, i):
    """dθ = −Σ K((z − θ)/ε)·(θ·df + penalty's slopes)/ε over the entries of latent i, ε = 2·half."""
    half, row_slope, latent_slope = penalties
    total, own = ZERO, latent_slope[i]
    for e in range(z.size):
        if abs(z[e] - theta) < half:
            total -= theta * df[e] + row_slope[rows[e]] + own
    return total / (half + half)


class Owned(NamedTuple):
    """What the update moves: latents' parameters and moments, when each was last moved, the next
    update's scalars, and the bfloat16 copy that it keeps up."""

    latents: Latents
    moments: Latents
    last_update: np.ndarray
    rates: Rates
    rounded: Rounded


@jit
def update_latent(i, g_enc, g_bias, g_dec, g_theta, owned):
    """Adam on all that latent i owns, the missed decays of its moments made up; g_* are spent."""
    latents, moments, last_update, rates, rounded = owned
    decay = np.float32(rates.beta2 ** (rates.now - last_update[i]))
    last_update[i] = rates.now
    one, scalars = slice(i, i + 1), rates.adam
    adam(latents.W_enc[i], moments.W_enc[i], g_enc, decay, scalars)
    adam_decoder(latents.W_dec[i], moments.W_dec[i], g_dec, decay, scalars)
    g_enc[0] = g_bias
    adam(latents.b_enc[one], moments.b_enc[one], g_enc[:1], decay, scalars)
    g_enc[0] = g_theta
    if rates.log_theta:
        adam_log(latents.theta[one], moments.theta[one], g_enc[:1], decay, scalars)
    else:
        adam(latents.theta[one], moments.theta[one], g_enc[:1], decay, scalars)
        latents.theta[i] = max(latents.theta[i], rates.theta_floor)
    if rounded.copy.size:
        bits = g_enc.view(np.uint32)
        round_row(rounded.W_enc_bits[i], rounded.copy[i], bits)
        rounded.rounded_norm[i] = np.sqrt(dot(g_enc, g_enc))
        rounded.error_norm[i] = distance(g_enc, latents.W_enc[i])


class Penalties(NamedTuple):
    """What moves θ: half the window's width, and the penalty's slopes by row and by latent."""

    half_bandwidth: np.float32
    row: np.ndarray
    latent: np.ndarray


@jit
def update_touched(
    shard, n_shards, shard_size, entries, x, residual, scale, penalties, owned, encoder_bias
):
    """Gradients and update of every latent of a shard with entries.

        dz = 1[z > θ]·df;  dW_enc = Σ dz·x;  db_enc = Σ dz;  dW_dec = Σ f·scale·residual

    encoder_bias[shard] = −Σ db_enc·W_enc row, the shard's part of db_dec. x is the encoder's input.
    """
    start, count, rows, z, df = entries
    latents = owned.latents
    g_enc, g_dec = np.empty(x.shape[1], np.float32), np.empty(residual.shape[1], np.float32)
    f, dz = np.empty(residual.shape[0], np.float32), np.empty(residual.shape[0], np.float32)
    out = encoder_bias[shard]
    out[:] = ZERO
    for i in range(shard * shard_size, min((shard + 1) * shard_size, count.size)):
        n = count[i]
        if n == 0:
            continue
        mine = slice(start[i], start[i] + n)
        theta, g_bias = latents.theta[i], ZERO
        for e in range(n):
            inactive = z[start[i] + e] <= theta
            f[e] = ZERO if inactive else scale * z[start[i] + e]
            dz[e] = ZERO if inactive else df[start[i] + e]
            g_bias += dz[e]
        g_theta = window_gradient(z[mine], df[mine], rows[mine], theta, penalties, i)
        weighted_sum(g_enc, dz[:n], x, rows[mine])
        weighted_sum(g_dec, f[:n], residual, rows[mine])
        add_scaled(out, -g_bias, latents.W_enc[i])
        update_latent(i, g_enc, g_bias, g_dec, g_theta, owned)


@jit
def round_all(block, n_blocks, W_enc, rounded):
    """Makes `rounded` from scratch."""
    values = np.empty(W_enc.shape[1], np.float32)
    first, last = block_range(block, n_blocks, W_enc.shape[0])
    for i in range(first, last):
        round_row(rounded.W_enc_bits[i], rounded.copy[i], values.view(np.uint32))
        rounded.rounded_norm[i] = np.sqrt(dot(values, values))
        rounded.error_norm[i] = distance(values, W_enc[i])


@jit
def prepare_rows(block, n_blocks, x, b_dec, gamma, out, out_bits, rounded, row_error, row_norm):
    """out = x − b_dec (or x, if b_dec is empty); with room for it, its bfloat16 copy and bound.

    out_bits is out as uint32; rounded uint16 [batch, d_in] or empty; the bound's terms are those
    of `screen.row_terms`.
    """
    values = np.empty(x.shape[1], np.float32)
    safety = ONE + gamma
    first, last = block_range(block, n_blocks, x.shape[0])
    for b in range(first, last):
        if b_dec.size:
            subtract(out[b], x[b], b_dec)
        else:
            out[b] = x[b]
        if rounded.size:
            round_row(out_bits[b], rounded[b], values.view(np.uint32))
            error = distance(values, out[b]) + gamma * np.sqrt(dot(values, values))
            row_error[b] = error * safety
            row_norm[b] = np.sqrt(dot(out[b], out[b])) * safety
