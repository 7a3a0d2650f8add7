"""Row arithmetic for the CPU step, compiled by numba: products, sums, Adam, bfloat16 rounding.

All scalars are float32 on purpose: one float64 constant would widen the whole loop around it.
"""

import math

import numpy as np

from .threads import jit

ZERO = np.float32(0)
ONE = np.float32(1)


@jit
def dot(a, b):
    """Σ a·b."""
    total = ZERO
    for k in range(a.size):
        total += a[k] * b[k]
    return total


@jit
def dot_four(out, w, a, b, c, d):
    """out[0:4] = w·a, w·b, w·c, w·d: w is loaded once for four products."""
    s0, s1, s2, s3 = ZERO, ZERO, ZERO, ZERO
    for k in range(w.size):
        x = w[k]
        s0 += x * a[k]
        s1 += x * b[k]
        s2 += x * c[k]
        s3 += x * d[k]
    out[0], out[1], out[2], out[3] = s0, s1, s2, s3


@jit
def add_four(out, f, a, b, c, d):
    """out += f[0]·a + f[1]·b + f[2]·c + f[3]·d: out is loaded and stored once for four rows."""
    p, q, r, s = f[0], f[1], f[2], f[3]
    for k in range(out.size):
        out[k] += p * a[k] + q * b[k] + r * c[k] + s * d[k]


@jit
def set_four(out, f, a, b, c, d):
    """out = f[0]·a + f[1]·b + f[2]·c + f[3]·d."""
    p, q, r, s = f[0], f[1], f[2], f[3]
    for k in range(out.size):
        out[k] = p * a[k] + q * b[k] + r * c[k] + s * d[k]


@jit
def add_few(out, fresh, n, f, a, b, c):
    """out += f[0]·a + f[1]·b + f[2]·c, the first n terms of it, n = 1 … 3; out = … if fresh."""
    p, q, r = f[0], f[1], f[2]
    if fresh:
        out[:] = ZERO
    if n == 1:
        for k in range(out.size):
            out[k] += p * a[k]
    elif n == 2:
        for k in range(out.size):
            out[k] += p * a[k] + q * b[k]
    else:
        for k in range(out.size):
            out[k] += p * a[k] + q * b[k] + r * c[k]


@jit
def add_scaled(out, p, a):
    """out += p·a."""
    for k in range(out.size):
        out[k] += p * a[k]


@jit
def subtract(out, a, b):
    """out = a − b."""
    for k in range(out.size):
        out[k] = a[k] - b[k]


@jit
def add_difference(out, a, b):
    """out += a − b."""
    for k in range(out.size):
        out[k] += a[k] - b[k]


@jit
def weighted_sum(out, weights, source, indices):
    """out = Σ_e weights[e]·source[indices[e]]."""
    out[:] = ZERO
    whole = weights.size - weights.size % 4
    for e in range(0, whole, 4):
        i, j, k, m = indices[e], indices[e + 1], indices[e + 2], indices[e + 3]
        add_four(out, weights[e : e + 4], source[i], source[j], source[k], source[m])
    for e in range(whole, weights.size):
        add_scaled(out, weights[e], source[indices[e]])


@jit
def adam(p, v, g, decay, scalars):
    """v ← decay·v + (1 − β2)·g²;  p ← p − lr·g / (√(v·correction) + eps).

    decay is β2 to the power of the steps since v was last brought up to date; scalars are float32
    (lr, 1 − β2, correction = 1/(1 − β2^t), eps).
    """
    lr, fresh, correction, eps = scalars
    for k in range(p.size):
        moment = decay * v[k] + fresh * g[k] * g[k]
        v[k] = moment
        p[k] -= lr * g[k] / (np.float32(math.sqrt(moment * correction)) + eps)


@jit
def adam_decoder(row, v, g, decay, scalars):
    """Adam on a decoder row, which has unit norm before and after; g is overwritten."""
    # g ← g − (g·row)·row: no step along the row itself
    along = dot(g, row)
    add_scaled(g, -along, row)
    adam(row, v, g, decay, scalars)
    # row ← row/‖row‖
    scale = ONE / np.float32(math.sqrt(dot(row, row)))
    for k in range(row.size):
        row[k] *= scale


@jit
def adam_log(p, v, g, decay, scalars):
    """`adam` on log p, p > 0, given the gradient g by p."""
    lr, fresh, correction, eps = scalars
    for k in range(p.size):
        # dL/d log p = p·dL/dp;  p ← exp(log p − change)
        slope = g[k] * p[k]
        v[k] = decay * v[k] + fresh * slope * slope
        change = lr * slope / (np.float32(math.sqrt(v[k] * correction)) + eps)
        p[k] *= np.float32(math.exp(-change))


@jit
def round_row(row, copy, rounded):
    """copy = the bfloat16 nearest to each float32 of row (ties to even); rounded = copy as float32.

    row and rounded are the bits of float32 (uint32), copy those of bfloat16 (uint16). NaN and
    values that overflow are not handled.
    """
    sixteen, one, half = np.uint32(16), np.uint32(1), np.uint32(0x7FFF)
    for k in range(row.size):
        # Adding 0x7FFF, or 0x8000 where the last bit kept is 1, carries into the upper half exactly
        # where the lower half is above one half, or equal to it beside an odd upper half.
        word = np.uint32(row[k])
        top = np.uint32((word + half + ((word >> sixteen) & one)) >> sixteen)
        copy[k] = np.uint16(top)
        rounded[k] = np.uint32(top << sixteen)


@jit
def distance(a, b):
    """‖a − b‖."""
    total = ZERO
    for k in range(a.size):
        total += (a[k] - b[k]) * (a[k] - b[k])
    return np.float32(math.sqrt(total))
