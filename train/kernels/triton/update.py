"""Triton kernels from the entries to the updated parameters: first by row, then by latent.

A program holds one whole vector of the width of the activations (WIDTH, a power of two of at least
it) in registers, so that each parameter is read and written once. Sums run in a fixed order: a
row's or a latent's in its program, the encoder's part of the decoder bias over fixed groups of
latents.

All threads of a program load a scalar, and where a row has fewer elements than the program has
threads, several load the same element, but one of them stores it. So between the loads of an
address and its store stands a barrier; else a late thread would read what is already updated:

    pass_rows        residual[b]
    update_touched   last_update[i], theta[i] and W_enc[i] (also read for sums), v_W_enc[i],
                     W_dec[i], v_W_dec[i], b_enc[i], v_b_enc[i], v_theta[i]
    keep_entries     rows and length of its latent (`entries`)

Nothing else is both loaded and stored in one kernel, and no two programs share an address that one
of them stores. `tests/train/kernels/triton/test_compiled.py` reads this off the compiled kernels.
"""

# pyright: reportOperatorIssue=false, reportArgumentType=false, reportGeneralTypeIssues=false
# pyright: reportCallIssue=false, reportIndexIssue=false
# (inside kernels, triton.language's types are those of the host)

import triton
import triton.language as tl


@triton.jit
def climb(node, held, moving, p, s, LEVEL: tl.constexpr):
    """One level of the shards' tree, after shard p and before shard s; see `shards.TreeSum`.

    A right child joins the left one that is held; a left one is held where s has the same parent,
    and stops moving; else it goes up alone. held is 0 where nothing is.
    """
    joins = moving & (((p >> LEVEL) & 1) == 1)
    waits = moving & (((p >> LEVEL) & 1) == 0) & ((p >> (LEVEL + 1)) == (s >> (LEVEL + 1)))
    node = tl.where(joins, held + node, node)
    held = tl.where(waits, node, tl.where(joins, 0.0, held))
    return node, held, moving & (waits == 0)


@triton.jit
def climb_all(node, h0, h1, h2, h3, h4, h5, p, s):
    """The tree's six levels: what is held on each of them, and the root's sum if s is no shard."""
    moving = p < s
    node, h0, moving = climb(node, h0, moving, p, s, 0)
    node, h1, moving = climb(node, h1, moving, p, s, 1)
    node, h2, moving = climb(node, h2, moving, p, s, 2)
    node, h3, moving = climb(node, h3, moving, p, s, 3)
    node, h4, moving = climb(node, h4, moving, p, s, 4)
    node, h5, moving = climb(node, h5, moving, p, s, 5)
    return node, h0, h1, h2, h3, h4, h5


# Flags and shard numbers are values, not constants: decoding alone must be the same machine code as
# decoding and differentiating at once.
@triton.jit(do_not_specialize=["decodes", "differentiates", "row_first", "row_last", "first_shard"])
def pass_rows(
    decodes, differentiates, row_first, row_last, entry, latent, z, df, theta, W_dec, base,
    residual, row_loss, row_l0, scale, shard_size, first_shard, d,
    MAY_DECODE: tl.constexpr, MAY_DIFFERENTIATE: tl.constexpr,
    WIDTH: tl.constexpr, AT_ONCE: tl.constexpr,
):  # fmt: skip
    """Decodes rows, differentiates them, or both. One program per row, AT_ONCE entries at a time;
    where it only decodes, one per WIDTH columns of a row.

        decode          x̂ = Σ f·W_dec over the row's entries, in the shards' tree;  ‖f‖₀
        differentiate   residual = x̂ + base;  ‖residual‖²;  df = scale·residual·W_decᵀ

    residual holds x̂ in between.
    """
    b = tl.program_id(0)
    first, last = tl.load(row_first + b), tl.load(row_last + b)
    k = tl.program_id(1).to(tl.int64) * WIDTH + tl.arange(0, WIDTH)
    place = b.to(tl.int64) * d + k
    out = tl.zeros([WIDTH], tl.float32)
    if MAY_DECODE and decodes != 0:
        leaf, h0, h1, h2, h3, h4, h5 = out, out, out, out, out, out, out
        active, p = 0, tl.full([], -1, tl.int64)
        lanes = tl.arange(0, AT_ONCE)
        for at in range(first, last, AT_ONCE):
            e = at + lanes
            there = e < last
            i = tl.load(latent + e, mask=there, other=0)
            value = tl.load(z + tl.load(entry + e, mask=there, other=0), mask=there, other=0.0)
            is_active = there & ~(value <= tl.load(theta + i))
            active += tl.sum(is_active.to(tl.int32), 0)
            inside = is_active[:, None] & (k < d)[None, :]
            rows = tl.load(W_dec + i[:, None] * d + k[None, :], mask=inside, other=0.0)
            rows = tl.where(is_active, value, 0.0)[:, None] * rows
            shard = i // shard_size + first_shard
            for j in tl.static_range(AT_ONCE):
                mine = tl.sum(tl.where(lanes == j, shard, 0), 0)
                if (at + j < last) & (mine != p):
                    leaf, h0, h1, h2, h3, h4, h5 = climb_all(leaf, h0, h1, h2, h3, h4, h5, p, mine)
                    leaf, p = tl.zeros([WIDTH], tl.float32), mine
                leaf += tl.sum(tl.where((lanes == j)[:, None], rows, 0.0), 0)
        out, h0, h1, h2, h3, h4, h5 = climb_all(leaf, h0, h1, h2, h3, h4, h5, p, p * 0 + 4096)
        tl.store(row_l0 + b, active, mask=tl.program_id(1) == 0)
    else:
        out = tl.load(residual + place, mask=k < d, other=0.0)
    if MAY_DIFFERENTIATE and differentiates != 0:
        out += tl.load(base + place, mask=k < d, other=0.0)
        tl.store(row_loss + b, tl.sum(out * out, 0))
        for at in range(first, last, AT_ONCE):
            e = at + tl.arange(0, AT_ONCE)
            there = e < last
            i = tl.load(latent + e, mask=there, other=0)
            inside = there[:, None] & (k < d)[None, :]
            rows = tl.load(W_dec + i[:, None] * d + k[None, :], mask=inside, other=0.0)
            at_entry = tl.load(entry + e, mask=there, other=0)
            tl.store(df + at_entry, scale * tl.sum(out[None, :] * rows, 1), mask=there)
    tl.debug_barrier()
    tl.store(residual + place, out, mask=k < d)


@triton.jit
def adam(p, v, g, decay, lr, fresh, correction, eps):
    """The parameter and moment after Adam with β1 = 0; see the CPU's `vectors.adam`."""
    v = decay * v + fresh * g * g
    return p - lr * g / (tl.sqrt(v * correction) + eps), v


@triton.jit
def sum_gradients(
    i, first, n, rows, z, df, x, residual, slopes, theta, scale, half, d_in, d_out,
    IN_WIDTH: tl.constexpr, OUT_WIDTH: tl.constexpr, AT_ONCE: tl.constexpr,
):  # fmt: skip
    """Latent i's gradients by (W_enc row, b_enc, W_dec row, θ).

    dW_enc = Σ dz·x;  db_enc = Σ dz;  dW_dec = Σ f·e;  dθ = −Σ K·(θ·df + slopes)/ε.
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
        near = there & (tl.abs(value - limit) < half)
        slope = tl.load(row_slope + b) + own_slope
        g_theta -= tl.sum(tl.where(near, limit * g + slope, 0.0), 0)
        f, dz = tl.where(active, scale * value, 0.0), tl.where(active, g, 0.0)
        g_bias += tl.sum(dz, 0)
        inside = active[:, None] & (a < d_in)[None, :]
        x_rows = tl.load(x + b[:, None] * d_in + a[None, :], mask=inside, other=0.0)
        g_enc += tl.sum(dz[:, None] * x_rows, 0)
        inside = active[:, None] & (c < d_out)[None, :]
        e_rows = tl.load(residual + b[:, None] * d_out + c[None, :], mask=inside, other=0.0)
        g_dec += tl.sum(f[:, None] * e_rows, 0)
    return g_enc, g_bias, g_dec, g_theta / (2 * half)


@triton.jit
def round_to_bfloat16(p):
    """The nearest bfloat16, ties to even, as float32: casts round as the device likes (Triton's
    interpreter cuts off)."""
    bits = p.to(tl.uint32, bitcast=True)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def update_vectors(
    i, g_enc, g_dec, W_enc, W_dec, v_W_enc, v_W_dec, copy, rounded_norm, error_norm,
    decay, lr, fresh, correction, eps, d_in, d_out,
    HAS_COPY: tl.constexpr, IN_WIDTH: tl.constexpr, OUT_WIDTH: tl.constexpr,
):  # fmt: skip
    """Adam on latent i's encoder row and its copy, and on its decoder row, which stays unit."""
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
        change, v = adam(0.0 * p, v, g_theta * p, decay, lr, fresh, correction, eps)
        tl.store(theta + i, p * tl.exp(change))
    else:
        p, v = adam(p, v, g_theta, decay, lr, fresh, correction, eps)
        tl.store(theta + i, tl.maximum(p, theta_floor))
    tl.store(v_theta + i, v)


# The number of the step has a value of its own every time: specialised, 1 and multiples of 16 would
# be compiled for themselves.
@triton.jit(do_not_specialize=["now"])
def update_touched(
    entries, x, residual, slopes, latents, moments, last_update, copy, encoder_bias,
    sizes, now, scalars, adam_scalars, theta_floor,
    LOG_THETA: tl.constexpr, HAS_COPY: tl.constexpr, GROUP: tl.constexpr,
    IN_WIDTH: tl.constexpr, OUT_WIDTH: tl.constexpr, AT_ONCE: tl.constexpr,
):  # fmt: skip
    """Gradients and update of the latents of one group of a shard that have entries.

    encoder_bias[group] = −Σ g_bias·W_enc row, the group's part of b_dec's gradient.

    Args:
        entries: start, length, rows, z, df.
        slopes: of the penalty, by row and by latent.
        latents, moments: W_enc rows, b_enc, W_dec, θ.
        copy: W_enc's bfloat16 rows, their norms and their errors' norms.
        sizes: latents, d_in, d_out, latents of a shard, groups of a shard.
        scalars: 2/batch, half the bandwidth, log2 β2.
    """
    start, length, rows, z, df = entries
    W_enc, b_enc, W_dec, theta = latents
    v_W_enc, v_b_enc, v_W_dec, v_theta = moments
    weights, rounded_norm, error_norm = copy
    n_latents, d_in, d_out, shard_size, n_groups = sizes
    scale, half, log2_beta2 = scalars
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
                i, first, n, rows, z, df, x, residual, slopes, theta, scale, half,
                d_in, d_out, IN_WIDTH, OUT_WIDTH, AT_ONCE,
            )  # fmt: skip
            through_encoder -= g_bias * tl.load(W_enc + i * d_in + a, mask=a < d_in, other=0.0)
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
    """out[shard] = the sum of a shard's groups [d], one after the other."""
    shard = tl.program_id(0).to(tl.int64)
    k = tl.program_id(1).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    for g in range(n_groups):
        total += tl.load(groups + (shard * n_groups + g) * d + k, mask=k < d, other=0.0)
    tl.store(out + shard * d + k, total, mask=k < d)
