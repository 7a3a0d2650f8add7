"""Triton kernels that find the entries of a batch: pairs (latent, row) with z > θ − ε/2.

One program per latent reads its row of the products [latents, batch] in blocks. Entries come out
latent by latent, rows ascending, whatever the scheduling: nothing here uses atomics.
"""

# pyright: reportOperatorIssue=false
# (inside kernels, triton.language's types are those of the host)

import triton
import triton.language as tl


@triton.jit
def count_entries(product, bias, edge, length, batch, BLOCK: tl.constexpr):
    """length[i] = rows with product + bias > edge; product is float32 or bfloat16.

    Tests `~(z <= limit)`, here and below: a NaN becomes an entry, so that it reaches the loss.
    """
    i = tl.program_id(0)
    limit, add = tl.load(edge + i), tl.load(bias + i)
    n = 0
    for first in range(0, batch, BLOCK):
        rows = first + tl.arange(0, BLOCK)
        inside = rows < batch
        z = tl.load(product + i.to(tl.int64) * batch + rows, mask=inside, other=0.0)
        z = z.to(tl.float32) + add
        n += tl.sum((inside & ~(z <= limit)).to(tl.int32), 0)
    tl.store(length + i, n)


@triton.jit
def fill_entries(product, bias, edge, start, rows_out, z_out, batch, BLOCK: tl.constexpr):
    """Writes the entries that `count_entries` counted."""
    i = tl.program_id(0)
    limit, add, at = tl.load(edge + i), tl.load(bias + i), tl.load(start + i)
    for first in range(0, batch, BLOCK):
        rows = first + tl.arange(0, BLOCK)
        inside = rows < batch
        z = tl.load(product + i.to(tl.int64) * batch + rows, mask=inside, other=0.0)
        z = z.to(tl.float32) + add
        hit = inside & ~(z <= limit)
        # The next free places of this latent, rows ascending.
        place = at + tl.cumsum(hit.to(tl.int32), 0) - 1
        tl.store(rows_out + place, rows, mask=hit)
        tl.store(z_out + place, z, mask=hit)
        at += tl.sum(hit.to(tl.int32), 0)


@triton.jit
def count_proposals(
    product, low, row_error, row_norm, rounded_norm, error_norm, length, batch, BLOCK: tl.constexpr
):  # fmt: skip
    """length[i] = rows whose exact product may be above low[i], by the screen's bound:
    bfloat16 product + row_error·rounded_norm + row_norm·error_norm > low.
    """
    i = tl.program_id(0)
    limit, alpha = tl.load(low + i), tl.load(rounded_norm + i)
    omega = tl.load(error_norm + i)
    n = 0
    for first in range(0, batch, BLOCK):
        rows = first + tl.arange(0, BLOCK)
        inside = rows < batch
        p = tl.load(product + i.to(tl.int64) * batch + rows, mask=inside, other=0.0)
        reach = tl.load(row_error + rows, mask=inside, other=0.0) * alpha
        reach += tl.load(row_norm + rows, mask=inside, other=0.0) * omega
        n += tl.sum((inside & ~(p.to(tl.float32) + reach <= limit)).to(tl.int32), 0)
    tl.store(length + i, n)


@triton.jit
def fill_proposals(
    product, low, row_error, row_norm, rounded_norm, error_norm, start, rows_out, batch,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Writes the rows of the proposals that `count_proposals` counted."""
    i = tl.program_id(0)
    limit, alpha = tl.load(low + i), tl.load(rounded_norm + i)
    omega, at = tl.load(error_norm + i), tl.load(start + i)
    for first in range(0, batch, BLOCK):
        rows = first + tl.arange(0, BLOCK)
        inside = rows < batch
        p = tl.load(product + i.to(tl.int64) * batch + rows, mask=inside, other=0.0)
        reach = tl.load(row_error + rows, mask=inside, other=0.0) * alpha
        reach += tl.load(row_norm + rows, mask=inside, other=0.0) * omega
        hit = inside & ~(p.to(tl.float32) + reach <= limit)
        place = at + tl.cumsum(hit.to(tl.int32), 0) - 1
        tl.store(rows_out + place, rows, mask=hit)
        at += tl.sum(hit.to(tl.int32), 0)


@triton.jit
def keep_entries(
    x, W, bias, edge, start, length, rows, z_out, batch, d,
    WIDTH: tl.constexpr, AT_ONCE: tl.constexpr,
):  # fmt: skip
    """Recomputes each proposal's z in float32 and keeps those above edge.

    z = W[i]·x[b] + bias[i]. Those kept move to the front of their latent's range, and length[i]
    becomes their number; the places left over get row = batch. WIDTH is a power of two of at least
    d. A place is always read by all threads before it is written (see `update`).
    """
    i = tl.program_id(0)
    first, last = tl.load(start + i), tl.load(start + i) + tl.load(length + i)
    limit, add = tl.load(edge + i), tl.load(bias + i)
    k = tl.arange(0, WIDTH)
    w = tl.load(W + i.to(tl.int64) * d + k, mask=k < d, other=0.0)
    kept = first
    for at in range(first, last, AT_ONCE):
        e = at + tl.arange(0, AT_ONCE)
        there = e < last
        row = tl.load(rows + e, mask=there, other=0)
        inside = there[:, None] & (k < d)[None, :]
        values = tl.load(x + row.to(tl.int64)[:, None] * d + k[None, :], mask=inside, other=0.0)
        # Every thread has read length and these rows before one overwrites them.
        tl.debug_barrier()
        z = tl.sum(values * w[None, :], 1) + add
        keep = there & ~(z <= limit)
        place = kept + tl.cumsum(keep.to(tl.int32), 0) - 1
        tl.store(rows + place, row, mask=keep)
        tl.store(z_out + place, z, mask=keep)
        kept += tl.sum(keep.to(tl.int32), 0)
    tl.debug_barrier()
    tl.store(length + i, kept - first)
    for at in range(kept, last, AT_ONCE):
        e = at + tl.arange(0, AT_ONCE)
        tl.store(rows + e, batch, mask=e < last)


@triton.jit
def count_fired(start, length, z, theta, fired, BLOCK: tl.constexpr):
    """fired[i] = entries of latent i with z > θ; one program per latent."""
    i = tl.program_id(0)
    first, limit, active = tl.load(start + i), tl.load(theta + i), 0
    last = first + tl.load(length + i)
    for at in range(first, last, BLOCK):
        e = at + tl.arange(0, BLOCK)
        value = tl.load(z + e, mask=e < last, other=0.0)
        active += tl.sum(((e < last) & ~(value <= limit)).to(tl.int32), 0)
    tl.store(fired + i, active)
