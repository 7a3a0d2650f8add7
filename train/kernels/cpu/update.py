"""The CPU step's compiled loops over latents: gradients and update of each one that has entries.

One pass per latent sums its gradients, projects, applies Adam and renormalises while everything is
in cache.
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
    """What belongs to single latents: parameters, or their second moments; all float32.

    W_enc [latents, d_in], b_enc [latents], W_dec [latents, d_out], theta [latents].
    """

    W_enc: np.ndarray
    b_enc: np.ndarray
    W_dec: np.ndarray
    theta: np.ndarray


class Rounded(NamedTuple):
    """A bfloat16 copy of W_enc's rows, and the norms that bound its error; or empty.

    Attributes:
        W_enc_bits: W_enc's own memory as uint32, [latents, d_in].
        copy: the bits of the copy, uint16 [latents, d_in].
        rounded_norm: float32 [latents], ‖copy of row i‖.
        error_norm: float32 [latents], ‖copy of row i − row i‖.
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
        theta_floor: smallest θ where Adam moves θ itself.
    """

    adam: tuple[np.float32, np.float32, np.float32, np.float32]
    beta2: float
    now: int
    log_theta: bool
    theta_floor: np.float32


@jit
def window_gradient(z, df, rows, theta, penalties, i):
    """dθ of latent i over its entries: the pseudo-gradients through JumpReLU and through the L0.

    dθ = −Σ K((z − θ)/ε)·(θ·df + penalty's slopes)/ε, K(u) = 1[|u| < 1/2], ε = 2·half_bandwidth.
    """
    half_bandwidth, row_slope, latent_slope = penalties
    total, own = ZERO, latent_slope[i]
    for e in range(z.size):
        if abs(z[e] - theta) < half_bandwidth:
            total -= theta * df[e] + row_slope[rows[e]] + own
    return total / (half_bandwidth + half_bandwidth)


class Owned(NamedTuple):
    """What an update of latents changes, with its scalars.

    Attributes:
        latents, moments: the parameters, and Adam's second moments of them.
        last_update: int64 [latents], the number of the update that last moved each.
        rates: this update's scalars.
        rounded: the bfloat16 copy that the update maintains, or an empty one.
    """

    latents: Latents
    moments: Latents
    last_update: np.ndarray
    rates: Rates
    rounded: Rounded


@jit
def update_latent(i, g_enc, g_bias, g_dec, g_theta, owned):
    """Adam on all parameters of latent i; g_enc and g_dec are overwritten.

    g_enc is float32 [d_in], g_dec [d_out]; g_bias and g_theta are numbers.
    """
    latents, moments, last_update, rates, rounded = owned
    # One decay for each update since the last that moved this latent: with β1 = 0 the updates in
    # between, whose gradients were zero, would only have decayed v.
    decay = np.float32(rates.beta2 ** (rates.now - last_update[i]))
    last_update[i] = rates.now
    one, scalars = slice(i, i + 1), rates.adam
    adam(latents.W_enc[i], moments.W_enc[i], g_enc, decay, scalars)
    adam_decoder(latents.W_dec[i], moments.W_dec[i], g_dec, decay, scalars)
    # g_enc is free by now: its first number passes the scalar gradients on as arrays.
    g_enc[0] = g_bias
    adam(latents.b_enc[one], moments.b_enc[one], g_enc[:1], decay, scalars)
    g_enc[0] = g_theta
    if rates.log_theta:
        adam_log(latents.theta[one], moments.theta[one], g_enc[:1], decay, scalars)
    else:
        adam(latents.theta[one], moments.theta[one], g_enc[:1], decay, scalars)
        latents.theta[i] = max(latents.theta[i], rates.theta_floor)
    if rounded.copy.size:
        # Here g_enc takes the copy's row as float32.
        bits = g_enc.view(np.uint32)
        round_row(rounded.W_enc_bits[i], rounded.copy[i], bits)
        rounded.rounded_norm[i] = np.sqrt(dot(g_enc, g_enc))
        rounded.error_norm[i] = distance(g_enc, latents.W_enc[i])


class Penalties(NamedTuple):
    """What θ's gradient needs besides z and df.

    Attributes:
        half_bandwidth: ε/2.
        row, latent: float32 [batch] and [latents], the penalty's slopes, λ included; see
            `result.Slopes`.
    """

    half_bandwidth: np.float32
    row: np.ndarray
    latent: np.ndarray


@jit
def update_touched(
    shard, n_shards, shard_size, entries, x, residual, scale, penalties, owned, encoder_bias
):
    """Gradients and update of every latent of a shard that has entries.

    Args:
        shard, n_shards: which of the shards owned, and how many there are.
        shard_size: latents of a shard.
        entries: with z and df.
        x: float32 [batch, d_in], the encoder's input (x − b_dec with pre_bias).
        residual: float32 [batch, d_out], x̂ − target.
        scale: 2/batch.
        penalties: for θ's gradient.
        owned: updated.
        encoder_bias: float32 [shards, d_in]; row `shard` becomes its part of db_dec,
            −Σ db_enc·W_enc row.
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
            # f[e] is scale·f;  dz = 1[z > θ]·df;  db_enc = Σ dz
            inactive = z[start[i] + e] <= theta
            f[e] = ZERO if inactive else scale * z[start[i] + e]
            dz[e] = ZERO if inactive else df[start[i] + e]
            g_bias += dz[e]
        g_theta = window_gradient(z[mine], df[mine], rows[mine], theta, penalties, i)
        # dW_enc = Σ dz·x;  dW_dec = Σ f·2(x̂ − target)/batch, over the latent's entries
        weighted_sum(g_enc, dz[:n], x, rows[mine])
        weighted_sum(g_dec, f[:n], residual, rows[mine])
        # By the encoder row before its update.
        add_scaled(out, -g_bias, latents.W_enc[i])
        update_latent(i, g_enc, g_bias, g_dec, g_theta, owned)


@jit
def round_all(block, n_blocks, W_enc, rounded):
    """Fills `rounded` from W_enc, float32 [latents, d_in]."""
    values = np.empty(W_enc.shape[1], np.float32)
    first, last = block_range(block, n_blocks, W_enc.shape[0])
    for i in range(first, last):
        round_row(rounded.W_enc_bits[i], rounded.copy[i], values.view(np.uint32))
        rounded.rounded_norm[i] = np.sqrt(dot(values, values))
        rounded.error_norm[i] = distance(values, W_enc[i])
