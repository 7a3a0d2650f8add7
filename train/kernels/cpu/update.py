"""The CPU step's compiled loops from the entries to the updated parameters.

First over rows (reconstruction, residual, df), then over latents: one pass per touched latent sums
its gradients, projects, applies Adam and renormalises while everything is in cache.
"""

from typing import NamedTuple

import numpy as np

from .entries import share
from .threads import jit
from .vectors import (
    ONE,
    ZERO,
    adam,
    adam_decoder,
    adam_log,
    add_four,
    add_scaled,
    distance,
    dot,
    dot_four,
    round_row,
    subtract,
    weighted_sum,
)


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


@jit
def reconstruct(
    block, n_blocks, entries, by_row, theta, W_dec, b_dec, skip, target, scale,
    residual, row_loss, row_l0, column_sum,
):  # fmt: skip
    """residual = b_dec (+ skip) + Σ f·W_dec − target; its squares [batch] and its column sums;
    ‖f‖₀ [batch]; df = scale·residual·W_dec of every entry.

    Row by row, so that the second pass over a row's decoder rows finds them in cache. skip is
    empty or [batch, d_out]; column_sum[block] gets the block's part.
    """
    row_start, entry, latent = by_row
    z, df, f, total = entries.z, entries.df, np.zeros(4, np.float32), column_sum[block]
    total[:] = ZERO
    first, last = share(block, n_blocks, residual.shape[0])
    for b in range(first, last):
        out, active = residual[b], 0
        subtract(out, b_dec, target[b])
        if skip.size:
            add_scaled(out, ONE, skip[b])
        for e in range(row_start[b], row_start[b + 1], 4):
            n = min(4, row_start[b + 1] - e)
            for k in range(n):
                value = z[entry[e + k]]
                inactive = value <= theta[latent[e + k]]
                active += not inactive
                f[k] = ZERO if inactive else value
            if n == 4:
                i, j, k, m = latent[e], latent[e + 1], latent[e + 2], latent[e + 3]
                add_four(out, f, W_dec[i], W_dec[j], W_dec[k], W_dec[m])
            else:
                for k in range(n):
                    add_scaled(out, f[k], W_dec[latent[e + k]])
        row_loss[b], row_l0[b] = dot(out, out), active
        add_scaled(total, ONE, out)
        for e in range(row_start[b], row_start[b + 1], 4):
            n = min(4, row_start[b + 1] - e)
            if n == 4:
                i, j, k, m = latent[e], latent[e + 1], latent[e + 2], latent[e + 3]
                dot_four(f, out, W_dec[i], W_dec[j], W_dec[k], W_dec[m])
            else:
                for k in range(n):
                    f[k] = dot(out, W_dec[latent[e + k]])
            for k in range(n):
                df[entry[e + k]] = scale * f[k]


@jit
def window_gradient(z, df, rows, theta, half, row_slope, latent_slope):
    """−Σ K((z − θ)/ε)·(θ·df + row_slope + latent_slope)/ε over a latent's entries, ε = 2·half."""
    total = ZERO
    for e in range(z.size):
        if abs(z[e] - theta) < half:
            total -= theta * df[e] + row_slope[rows[e]] + latent_slope
    return total / (half + half)


@jit
def update_latent(i, g_enc, g_bias, g_dec, g_theta, latents, moments, last_update, rates, rounded):
    """Adam on all that latent i owns, the missed decays of its moments made up; g_* are spent."""
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


@jit
def update_touched(
    block, n_blocks, entries, x, residual, scale, half, row_slope, latent_slope,
    latents, moments, last_update, rates, rounded, encoder_bias,
):  # fmt: skip
    """Gradients and update of every latent with entries; encoder_bias[block] −= Σ g_bias·W_enc row.

    scale·residual is the gradient by x̂; x is the encoder's input.
    """
    start, count, rows, z, df = entries
    g_enc, g_dec = np.empty(x.shape[1], np.float32), np.empty(residual.shape[1], np.float32)
    f, dz = np.empty(residual.shape[0], np.float32), np.empty(residual.shape[0], np.float32)
    out = encoder_bias[block]
    out[:] = ZERO
    first, last = share(block, n_blocks, count.size)
    for i in range(first, last):
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
        g_theta = window_gradient(
            z[mine], df[mine], rows[mine], theta, half, row_slope, latent_slope[i]
        )
        weighted_sum(g_enc, dz[:n], x, rows[mine])
        weighted_sum(g_dec, f[:n], residual, rows[mine])
        add_scaled(out, -g_bias, latents.W_enc[i])
        update_latent(
            i, g_enc, g_bias, g_dec, g_theta, latents, moments, last_update, rates, rounded
        )


@jit
def round_all(block, n_blocks, W_enc, rounded):
    """Makes `rounded` from scratch."""
    values = np.empty(W_enc.shape[1], np.float32)
    first, last = share(block, n_blocks, W_enc.shape[0])
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
    first, last = share(block, n_blocks, x.shape[0])
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
