"""Triton kernels over rows: decode, and differentiate.

A program holds a row, or WIDTH columns of it, in registers. `update` explains the barriers.
"""

# pyright: reportOperatorIssue=false, reportArgumentType=false, reportGeneralTypeIssues=false
# pyright: reportCallIssue=false, reportIndexIssue=false
# (inside kernels, triton.language's types are those of the host)

import triton
import triton.language as tl


@triton.jit
def climb(node, held, moving, p, s, LEVEL: tl.constexpr):
    """Moves a sum up one level of the shards' tree, after shard p and before shard s; see
    `shards.TreeSum`.

    A right child is added to the left child that is held, and moves on. A left child is held, and
    stops moving, if s is below the same parent; otherwise it moves on alone. held is 0 while a
    level holds nothing.
    """
    joins = moving & (((p >> LEVEL) & 1) == 1)
    waits = moving & (((p >> LEVEL) & 1) == 0) & ((p >> (LEVEL + 1)) == (s >> (LEVEL + 1)))
    node = tl.where(joins, held + node, node)
    held = tl.where(waits, node, tl.where(joins, 0.0, held))
    return node, held, moving & (waits == 0)


@triton.jit
def climb_all(node, h0, h1, h2, h3, h4, h5, p, s):
    """`climb` on all six levels (64 shards): what is held on each afterwards. If s is beyond all
    shards, nothing stops on the way, and the first value returned is the root's sum."""
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
    """Decodes rows, differentiates them, or both. One program per row; if it only decodes, one per
    WIDTH columns of a row. AT_ONCE entries are loaded at a time.

        decode          x̂ = Σ f·W_dec over the row's entries, in the shards' tree;  ‖f‖₀
        differentiate   residual = x̂ + base;  ‖residual‖²;  df = scale·residual·W_decᵀ

    Args:
        decodes, differentiates: what to do, 0 or 1.
        row_first, row_last: [batch], where a row's entries begin and end in entry and latent.
        entry, latent: of every entry, its place in z and df, and its latent.
        base: float32 [batch, d], b_dec (+ skip) − target.
        residual: float32 [batch, d]; holds x̂ between decoding and differentiating.
        scale: 2/batch.
        first_shard: the number of the shard that latent 0 is in.
        d: d_out.
        MAY_DECODE, MAY_DIFFERENTIATE: which code is compiled.
    """
    b = tl.program_id(0)
    first, last = tl.load(row_first + b), tl.load(row_last + b)
    k = tl.program_id(1).to(tl.int64) * WIDTH + tl.arange(0, WIDTH)
    place = b.to(tl.int64) * d + k
    out = tl.zeros([WIDTH], tl.float32)
    if MAY_DECODE and decodes != 0:
        # leaf: the sum of the current shard p; h0 … h5: what the tree's levels hold.
        leaf, h0, h1, h2, h3, h4, h5 = out, out, out, out, out, out, out
        active, p = 0, tl.full([], -1, tl.int64)
        lanes = tl.arange(0, AT_ONCE)
        for at in range(first, last, AT_ONCE):
            e = at + lanes
            there = e < last
            i = tl.load(latent + e, mask=there, other=0)
            value = tl.load(z + tl.load(entry + e, mask=there, other=0), mask=there, other=0.0)
            # f·W_dec rows of AT_ONCE entries; f = z·1[z > θ], and a NaN is active
            is_active = there & ~(value <= tl.load(theta + i))
            active += tl.sum(is_active.to(tl.int32), 0)
            inside = is_active[:, None] & (k < d)[None, :]
            rows = tl.load(W_dec + i[:, None] * d + k[None, :], mask=inside, other=0.0)
            rows = tl.where(is_active, value, 0.0)[:, None] * rows
            shard = i // shard_size + first_shard
            # Entry by entry, so that a sum's order does not depend on how entries are grouped.
            for j in tl.static_range(AT_ONCE):
                mine = tl.sum(tl.where(lanes == j, shard, 0), 0)
                if (at + j < last) & (mine != p):
                    leaf, h0, h1, h2, h3, h4, h5 = climb_all(leaf, h0, h1, h2, h3, h4, h5, p, mine)
                    leaf, p = tl.zeros([WIDTH], tl.float32), mine
                leaf += tl.sum(tl.where((lanes == j)[:, None], rows, 0.0), 0)
        # 4096 is beyond all shards: out becomes the root's sum.
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
            # df = scale·residual·W_dec row of each entry
            at_entry = tl.load(entry + e, mask=there, other=0)
            tl.store(df + at_entry, scale * tl.sum(out[None, :] * rows, 1), mask=there)
    tl.debug_barrier()
    tl.store(residual + place, out, mask=k < d)
