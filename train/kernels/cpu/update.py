"""The CPU step's compiled loops over latents: gradients and update of each one that has entries.

One pass per touched latent sums its gradients, projects, applies Adam and renormalises while
everything is in cache.
"""

from typing import NamedTuple

import numpy as np

from .entries import block_range
from .threads import jit
from .vectors import (
    ZERO,
    adam,
    adam_decoder,
    adam_log,
    add_scaled,
    distance,
    dot,
    round_row,
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
def window_gradient(z, df, rows, theta, penalties, i):
    """dθ = −Σ K((z − θ)/ε)·(θ·df + penalty's slopes)/ε over the entries of latent i,
    ε = 2·half_bandwidth."""
    half_bandwidth, row_slope, latent_slope = penalties
    total, own = ZERO, latent_slope[i]
    for e in range(z.size):
        if abs(z[e] - theta) < half_bandwidth:
            total -= theta * df[e] + row_slope[rows[e]] + own
    return total / (half_bandwidth + half_bandwidth)


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
    """What moves θ: half the window's width, and the penalty's slopes by row and by latent, which
    have λ in them (`result.Slopes`)."""

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
