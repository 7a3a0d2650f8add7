"""Triton kernels over latents: gradients, Adam and renormalisation of those that have entries.

A program holds a whole row of W_enc or W_dec in registers (its width rounded up to a power of two),
so that each parameter is read and written once. Sums run in a fixed order: a latent's gradients in
its program, the encoder's part of b_dec's gradient over fixed groups of latents, then over shards.

Every thread of a program loads each scalar, and several threads load the same element of a row that
has fewer elements than the program has threads, but only one of them stores it. So a barrier
separates the loads of an address from its store; without it a late thread would read the updated
value:

    pass_rows        residual[b]                                                        `rows`
    update_touched   last_update[i], theta[i] and W_enc[i] (also read for sums), v_W_enc[i],
                     W_dec[i], v_W_dec[i], b_enc[i], v_b_enc[i], v_theta[i]
    keep_entries     rows and length of its latent                                      `entries`

Nothing else is both loaded and stored in one kernel, and no two programs share an address that one
of them stores. `tests/train/kernels/triton/test_compiled.py` reads this off the compiled kernels.
"""

# pyright: reportOperatorIssue=false, reportArgumentType=false, reportGeneralTypeIssues=false
# pyright: reportCallIssue=false, reportIndexIssue=false
# (inside kernels, triton.language's types are those of the host)

import triton
import triton.language as tl


@triton.jit
def adam(p, v, g, decay, lr, fresh, correction, eps):
    """The parameter and moment after Adam with β1 = 0; arguments as in the CPU's `vectors.adam`."""
    # v ← decay·v + (1 − β2)·g²;  p ← p − lr·g / (√(v·correction) + eps)
    v = decay * v + fresh * g * g
    return p - lr * g / (tl.sqrt(v * correction) + eps), v


@triton.jit
def sum_gradients(
    i, first, n, rows, z, df, x, residual, slopes, theta, scale, half_bandwidth, d_in, d_out,
    IN_WIDTH: tl.constexpr, OUT_WIDTH: tl.constexpr, AT_ONCE: tl.constexpr,
):  # fmt: skip
    """Latent i's gradients by (W_enc row, b_enc, W_dec row, θ), summed over its n entries from
    `first` on, AT_ONCE at a time.

        dW_enc = Σ dz·x;  db_enc = Σ dz;  dW_dec = Σ f·e;  dθ = −Σ K·(θ·df + slopes)/ε

    with e = scale·residual, dz = 1[z > θ]·df and K = 1[|z − θ| < half_bandwidth].
    """
    row_slope, latent_slope = slopes
    a, c = tl.arange(0, IN_WIDTH), tl.arange(0, OUT_WIDTH)
    limit, own_slope = tl.load(theta + i), tl.load(latent_slope + i)
    g_enc, g_dec = tl.zeros([IN_WIDTH], tl.float32), tl.zeros([OUT_WIDTH], tl.float32)
    g_bias, g_theta = 0.0, 0.0
    for at in range(first, first + n, AT_ONCE):
        e = at + tl.arange(0, AT_ONCE)
        there = e < first + n
        b = tl.load(rows + e, mask=there, other=0).to(tl.int64)
        value = tl.load(z + e, mask=there, other=0.0)
        g = tl.load(df + e, mask=there, other=0.0)
        active = there & ~(value <= limit)
        near = there & (tl.abs(value - limit) < half_bandwidth)
        slope = tl.load(row_slope + b) + own_slope
        # K·(θ·df + slopes); divided by ε at the end
        g_theta -= tl.sum(tl.where(near, limit * g + slope, 0.0), 0)
        # f is scale·f here: times the residual it is f·e
        f, dz = tl.where(active, scale * value, 0.0), tl.where(active, g, 0.0)
        g_bias += tl.sum(dz, 0)
        inside = active[:, None] & (a < d_in)[None, :]
        x_rows = tl.load(x + b[:, None] * d_in + a[None, :], mask=inside, other=0.0)
        g_enc += tl.sum(dz[:, None] * x_rows, 0)
        inside = active[:, None] & (c < d_out)[None, :]
        e_rows = tl.load(residual + b[:, None] * d_out + c[None, :], mask=inside, other=0.0)
        g_dec += tl.sum(f[:, None] * e_rows, 0)
    return g_enc, g_bias, g_dec, g_theta / (2 * half_bandwidth)


@triton.jit
def round_to_bfloat16(p):
    """The nearest bfloat16, ties to even, as float32."""
    # By hand: how a cast rounds depends on the device (Triton's interpreter truncates).
    bits = p.to(tl.uint32, bitcast=True)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def update_vectors(
    i, g_enc, g_dec, W_enc, W_dec, v_W_enc, v_W_dec, copy, rounded_norm, error_norm,
    decay, lr, fresh, correction, eps, d_in, d_out,
    HAS_COPY: tl.constexpr, IN_WIDTH: tl.constexpr, OUT_WIDTH: tl.constexpr,
):  # fmt: skip
    """Adam on latent i's encoder row, with its bfloat16 copy, and on its decoder row, which keeps
    unit norm."""
    a, c = tl.arange(0, IN_WIDTH), tl.arange(0, OUT_WIDTH)
    at = i * d_in + a
    p = tl.load(W_enc + at, mask=a < d_in, other=0.0)
    v = tl.load(v_W_enc + at, mask=a < d_in, other=0.0)
    p, v = adam(p, v, g_enc, decay, lr, fresh, correction, eps)
    tl.debug_barrier()
    tl.store(W_enc + at, p, mask=a < d_in)
    tl.store(v_W_enc + at, v, mask=a < d_in)
    if HAS_COPY:
        back = round_to_bfloat16(p)
        tl.store(copy + at, back.to(tl.bfloat16), mask=a < d_in)
        tl.store(rounded_norm + i, tl.sqrt(tl.sum(back * back, 0)))
        tl.store(error_norm + i, tl.sqrt(tl.sum((back - p) * (back - p), 0)))
    at = i * d_out + c
    p = tl.load(W_dec + at, mask=c < d_out, other=0.0)
    v = tl.load(v_W_dec + at, mask=c < d_out, other=0.0)
    # g ← g − (g·row)·row, then Adam, then row/‖row‖
    g_dec -= tl.sum(g_dec * p, 0) * p
    p, v = adam(p, v, g_dec, decay, lr, fresh, correction, eps)
    tl.debug_barrier()
    tl.store(W_dec + at, p / tl.sqrt(tl.sum(p * p, 0)), mask=c < d_out)
    tl.store(v_W_dec + at, v, mask=c < d_out)


@triton.jit
def update_scalars(
    i, g_bias, g_theta, b_enc, theta, v_b_enc, v_theta, theta_floor,
    decay, lr, fresh, correction, eps, LOG_THETA: tl.constexpr,
):  # fmt: skip
    """Adam on latent i's b_enc and θ (or log θ)."""
    bias, v_bias = tl.load(b_enc + i), tl.load(v_b_enc + i)
    p, v = tl.load(theta + i), tl.load(v_theta + i)
    tl.debug_barrier()
    bias, v_bias = adam(bias, v_bias, g_bias, decay, lr, fresh, correction, eps)
    tl.store(b_enc + i, bias)
    tl.store(v_b_enc + i, v_bias)
    if LOG_THETA:
        # dL/d log θ = θ·dL/dθ;  θ ← θ·exp(change), with the change of a parameter at 0
        change, v = adam(0.0 * p, v, g_theta * p, decay, lr, fresh, correction, eps)
        tl.store(theta + i, p * tl.exp(change))
    else:
        p, v = adam(p, v, g_theta, decay, lr, fresh, correction, eps)
        tl.store(theta + i, tl.maximum(p, theta_floor))
    tl.store(v_theta + i, v)


# `now` has another value at every step. If it were specialised, kernels of their own would be
# compiled for 1 and for multiples of 16.
@triton.jit(do_not_specialize=["now"])
def update_touched(
    entries, x, residual, slopes, latents, moments, last_update, copy, encoder_bias,
    sizes, now, scalars, adam_scalars, theta_floor,
    LOG_THETA: tl.constexpr, HAS_COPY: tl.constexpr, GROUP: tl.constexpr,
    IN_WIDTH: tl.constexpr, OUT_WIDTH: tl.constexpr, AT_ONCE: tl.constexpr,
):  # fmt: skip
    """Gradients and update of the latents of one group of a shard that have entries; a program per
    group of GROUP latents.

    Args:
        entries: start, length, rows, z, df.
        x: float32 [batch, d_in], the encoder's input.
        residual: float32 [batch, d_out], x̂ − target.
        slopes: of the penalty, by row and by latent.
        latents, moments: W_enc rows, b_enc, W_dec, θ; updated.
        last_update: int64 [latents], updated.
        copy: W_enc's bfloat16 rows, their norms and their errors' norms; updated if HAS_COPY.
        encoder_bias: float32 [groups, d_in]; becomes −Σ db_enc·W_enc row of each group, its part of
            b_dec's gradient.
        sizes: latents, d_in, d_out, latents of a shard, groups of a shard.
        now: number of this update, from 1.
        scalars: 2/batch, half the bandwidth, log2 β2.
        adam_scalars: lr, 1 − β2, 1/(1 − β2^t), eps.
    """
    start, length, rows, z, df = entries
    W_enc, b_enc, W_dec, theta = latents
    v_W_enc, v_b_enc, v_W_dec, v_theta = moments
    weights, rounded_norm, error_norm = copy
    n_latents, d_in, d_out, shard_size, n_groups = sizes
    scale, half_bandwidth, log2_beta2 = scalars
    lr, fresh, correction, eps = adam_scalars
    group = tl.program_id(0).to(tl.int64)
    shard, first_of_group = group // n_groups, group % n_groups * GROUP
    end = tl.minimum((shard + 1) * shard_size, n_latents)
    a = tl.arange(0, IN_WIDTH)
    through_encoder = tl.zeros([IN_WIDTH], tl.float32)
    for j in range(GROUP):
        i = shard * shard_size + first_of_group + j
        n = tl.load(length + i, mask=i < end, other=0)
        if n > 0:
            first = tl.load(start + i)
            g_enc, g_bias, g_dec, g_theta = sum_gradients(
                i, first, n, rows, z, df, x, residual, slopes, theta, scale, half_bandwidth,
                d_in, d_out, IN_WIDTH, OUT_WIDTH, AT_ONCE,
            )  # fmt: skip
            through_encoder -= g_bias * tl.load(W_enc + i * d_in + a, mask=a < d_in, other=0.0)
            # β2 for each update since the last that moved this latent
            decay = tl.exp2((now - tl.load(last_update + i)).to(tl.float32) * log2_beta2)
            tl.debug_barrier()
            tl.store(last_update + i, now)
            update_vectors(
                i, g_enc, g_dec, W_enc, W_dec, v_W_enc, v_W_dec, weights, rounded_norm, error_norm,
                decay, lr, fresh, correction, eps, d_in, d_out, HAS_COPY, IN_WIDTH, OUT_WIDTH,
            )  # fmt: skip
            update_scalars(
                i, g_bias, g_theta, b_enc, theta, v_b_enc, v_theta, theta_floor,
                decay, lr, fresh, correction, eps, LOG_THETA,
            )  # fmt: skip
    tl.store(encoder_bias + group * d_in + a, through_encoder, mask=a < d_in)


@triton.jit
def add_groups(groups, out, n_groups, d, BLOCK: tl.constexpr):
    """out[shard] = the sum of its groups' rows [d], added one after the other."""
    shard = tl.program_id(0).to(tl.int64)
    k = tl.program_id(1).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    for g in range(n_groups):
        total += tl.load(groups + (shard * n_groups + g) * d + k, mask=k < d, other=0.0)
    tl.store(out + shard * d + k, total, mask=k < d)
