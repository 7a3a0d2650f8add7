"""The dense path of the CPU step: five products a shard, used while many latents fire.

The same step as the sparse path's, with the gradients of W_enc and W_dec as whole matrices, latents
first ([latents, batch]); e = 2(x̂ − target)/batch, W_enc by rows [d_sae, d_in]:

    decode          z = W_enc·xᵀ + b_enc;  f = z·1[z > θ];  x̂ = Σ over shards of fᵀ·W_dec
    differentiate   df = W_dec·eᵀ;  dz = 1[z > θ]·df;  dW_dec = f·e;  dW_enc = dz·x
"""

import numpy as np
import torch
from torch import Tensor

from ..result import StepResult, report
from ..settings import StepSettings
from ..shards import Node, Share, TreeSum, product
from ..state import TrainState
from .encode import fast_float32, no_copy
from .entries import block_range
from .finish import owned, rates, skip_output, update_shared
from .threads import blocks_for, jit, run_blocks
from .update import Penalties, update_latent
from .vectors import ZERO
from .workspace import Workspace


def step(
    state: TrainState,
    x: Tensor,
    target: Tensor,
    settings: StepSettings,
    share: Share,
    workspace: Workspace,
) -> StepResult:
    """One step by dense products; see `kernels.step`."""
    p, batch, rows = state.parameters, x.shape[0], share.my_rows(x.shape[0])
    half_bandwidth, scale = np.float32(settings.bandwidth / 2), 2 / batch
    x_in = x[rows] - p.b_dec if settings.pre_bias else x[rows]
    n_rows = x_in.shape[0]
    z = workspace.tensor("dense_z", p.d_sae, n_rows)
    fired = torch.empty(p.d_sae, dtype=torch.int64)
    counts = torch.zeros(_blocks(share, n_rows), 2, n_rows, dtype=torch.int32)
    x_hat = _decode(state, x_in, half_bandwidth, share, workspace, z, fired, counts)
    row_l0, row_near = share.count(counts.sum(0, dtype=torch.int64))
    residual = x_hat.add_(p.b_dec - target[rows])
    if p.W_skip is not None:
        residual += skip_output(state, x[rows])
    row_loss, n_near, of_all = residual.square().sum(1), row_near.sum(), residual
    if share.rows is not None:
        of_all, row_loss, row_l0 = share.rows.residuals(residual, row_loss, row_l0, batch)
        fired, n_near = share.rows.summed(fired, n_near)
    result, slopes = report(row_loss, row_l0, fired, settings, share, "cpu/dense")
    if not result.finite:
        return result
    state.scratch.clear()
    now = rates(state, settings)
    penalties = Penalties(half_bandwidth, slopes.row[rows].numpy(), slopes.latent.numpy())
    moving = owned(state, now, no_copy())

    def update(shard: int) -> Tensor:
        """Gradients and update of a shard's latents; returns its part of db_dec, [d_in]."""
        mine = share.latents(shard)
        shape = (mine.stop - mine.start, n_rows)
        f, df = z[mine], workspace.tensor("dense_shard", *shape)
        g_bias, g_theta = np.empty((2, shape[0]), np.float32)
        with fast_float32():
            # df = W_dec·eᵀ
            product(p.W_dec[mine], residual.t(), out=df).mul_(scale)
        blocks = blocks_for(f.numel())
        theta = p.theta[mine].numpy()
        slope = penalties._replace(latent=penalties.latent[mine])
        run_blocks(backward, blocks, f.numpy(), theta, slope, df.numpy(), g_bias, g_theta)
        with fast_float32():
            # dW_enc = dz·x;  dW_dec = f·e
            W_enc, W_dec = product(df, x_in), product(f, residual).mul_(scale)
        if share.rows is not None:
            biases = torch.from_numpy(g_bias), torch.from_numpy(g_theta)
            W_enc, W_dec, *biases = share.rows.summed(W_enc, W_dec, *biases)
            g_bias, g_theta = (sums.numpy() for sums in biases)
        # x − b_dec enters z: db_dec has −Σ db_enc·W_enc row, by the rows before their update
        through_encoder = product(torch.from_numpy(-g_bias[None]), p.W_enc.t()[mine])[0]
        gradients = (W_enc.numpy(), g_bias, W_dec.numpy(), g_theta)
        run_blocks(update_all, blocks, mine.start, *gradients, moving)
        return through_encoder

    through_encoder = share.add(update)
    b_dec = of_all.sum(0).mul_(scale)
    if settings.pre_bias:
        b_dec += through_encoder
    update_shared(state, x, of_all, b_dec.numpy(), now)
    state.entries_per_row = float(n_near) / batch
    return result


def _decode(
    state: TrainState,
    x_in: Tensor,
    half_bandwidth: np.float32,
    share: Share,
    workspace: Workspace,
    z: Tensor,
    fired: Tensor,
    counts: Tensor,
) -> Tensor:
    """x̂ over all latents, [batch, d_out]; fills z and fired, adds to counts."""
    p, nodes = state.parameters, []
    f = workspace.tensor("dense_shard", share.size, x_in.shape[0])
    for shards in share.nodes():
        tree = TreeSum()
        for shard in shards:
            mine = share.latents(shard)
            mine_f = f[: mine.stop - mine.start]
            with fast_float32():
                product(p.W_enc.t()[mine], x_in.t(), out=z[mine])
            own = (t[mine].numpy() for t in (z, p.b_enc, p.theta))
            out = (mine_f.numpy(), fired[mine].numpy(), counts.numpy())
            run_blocks(activate, len(counts), *own, half_bandwidth, *out)
            place = f"dense_x_hat_{shards[0]}_{tree.make_way(shard)}"
            x_hat = workspace.tensor(place, x_in.shape[0], p.d_out)
            with fast_float32():
                tree.push(shard, product(mine_f.t(), p.W_dec[mine], out=x_hat))
        nodes.append(Node(shards[0], tree.total()))
    return share.reduce(nodes)


def _blocks(share: Share, batch: int) -> int:
    """Blocks of the loop over a shard's latents; each keeps counts of its own."""
    return min(16, blocks_for(share.size * batch))


@jit
def activate(block, n_blocks, z, b_enc, theta, half_bandwidth, f, fired, counts):
    """z += b_enc;  f = z·1[z > θ];  fired = rows in which a latent is active.

    z and f are float32 [latents, batch]. counts[block], int32 [2, batch], is increased by the
    number of latents of each row with z > θ, and with z > θ − half_bandwidth.
    """
    active, near = counts[block, 0], counts[block, 1]
    first, last = block_range(block, n_blocks, z.shape[0])
    for i in range(first, last):
        add, limit, n = b_enc[i], theta[i], 0
        for b in range(z.shape[1]):
            value = z[i, b] + add
            # A NaN is not inactive, so that it reaches the loss.
            inactive = value <= limit
            z[i, b] = value
            f[i, b] = ZERO if inactive else value
            n += not inactive
            active[b] += np.int32(not inactive)
            near[b] += np.int32(not (value <= limit - half_bandwidth))
        fired[i] = n


@jit
def backward(block, n_blocks, z, theta, penalties, df, g_bias, g_theta):
    """df becomes dz = 1[z > θ]·df, and z becomes f = 1[z > θ]·z, both [latents, batch].

    g_bias = Σ dz;  g_theta = −Σ K((z − θ)/ε)·(θ·df + penalty's slopes)/ε, ε = 2·half_bandwidth.
    """
    half_bandwidth, row_slope, latent_slope = penalties
    first, last = block_range(block, n_blocks, z.shape[0])
    for i in range(first, last):
        limit, own, bias, window = theta[i], latent_slope[i], ZERO, ZERO
        for b in range(z.shape[1]):
            value, g = z[i, b], df[i, b]
            near, active = abs(value - limit) < half_bandwidth, value > limit
            # K·(θ·df + slopes), with df before it becomes dz
            window += limit * g + row_slope[b] + own if near else ZERO
            g = g if active else ZERO
            bias += g
            df[i, b] = g
            z[i, b] = value if active else ZERO
        g_bias[i] = bias
        g_theta[i] = -window / (half_bandwidth + half_bandwidth)


@jit
def update_all(block, n_blocks, start, g_enc, g_bias, g_dec, g_theta, owned):
    """`update_latent` for the latents from `start` on, from whole gradients."""
    first, last = block_range(block, n_blocks, g_bias.size)
    for i in range(first, last):
        update_latent(start + i, g_enc[i], g_bias[i], g_dec[i], g_theta[i], owned)
