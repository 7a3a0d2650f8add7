"""The step on CUDA by Triton kernels; the same step as `cpu`, under the interpreter also on a CPU.

    entries   `encode`: a product per shard of latents, then what is above the window is listed
    rows      `rows.pass_rows`: decode (x̂), differentiate (the residual, df of each row's
              entries); `Share.reduce` in between where ranks share the latents
    latents   `update.update_touched`: gradients, Adam, renormalisation of touched latents

Deterministic: no atomics, fixed orders of summation, stable sorting. The dense path, for the first
steps while many latents fire, is `dense`.
"""

# pyright: reportArgumentType=false, reportCallIssue=false
# (kernels are launched through triton.jit, which the checker sees as the plain function)

import math
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from ..result import Slopes, StepResult, report
from ..row_blocks import ListedEntries, RowBlocks
from ..settings import StepSettings
from ..shards import Node, Share, product
from ..state import Parameters, TrainState
from . import dense
from .encode import BLOCK, FIND, FUSED, at_once, most_entries, whole_row
from .entries import count_fired
from .lists import Entries, RoundedWeights, list_by_row, make_copy
from .rows import pass_rows
from .update import add_groups, update_touched

PATHS = ("dense", "sparse", "screened", "bfloat16", "tf32")
# Share of the latents with an entry, per row, above which the dense products are the faster step.
# From the CPU's measurements; to be measured again on a GPU.
DENSE_ABOVE = 0.10
CALIBRATION_ROWS = 64
# Warps of the kernels that hold whole rows: with 4, rows of 3,584 need more than a thread's 255
# registers.
WARPS = 8
# The widest row whose sums over shards fit into registers; of wider ones, parts are decoded.
WIDEST = 4096
# Latents per updating program. Fixed: sums are kept per group, so results do not depend on the
# device's size.
GROUP = 32


def step(
    state: TrainState,
    x: Tensor,
    target: Tensor,
    settings: StepSettings,
    share: Share,
    path: str = "",
) -> StepResult:
    """One step by the given path, or by the one that `choose_path` says; see `kernels.step`."""
    _check_layout(state)
    with torch.cuda.device_of(x):  # kernels start on the current device
        path = path or choose_path(state, x, settings, share)
        result = None if path == "dense" else _sparse_step(state, x, target, settings, share, path)
        return result or dense.step(state, x, target, settings, share)


def choose_path(state: TrainState, x: Tensor, settings: StepSettings, share: Share) -> str:
    """The path for the last step's entries per row; before the first step, for those of the first
    rows of x. See the CPU's."""
    if settings.encoder == "tf32" and x.device.type != "cuda":
        raise ValueError("encoder tf32 needs a CUDA device; choose bfloat16, screened or float32")
    p, entries_per_row = state.parameters, state.entries_per_row
    if entries_per_row < 0:
        rows, near = x[:CALIBRATION_ROWS], x.new_zeros((), dtype=torch.int64)
        edge = p.theta - settings.bandwidth / 2
        x_in = rows - p.b_dec if settings.pre_bias else rows
        for mine in map(share.latents, share.shards()):
            z = product(p.W_enc.t()[mine], x_in.t()) + p.b_enc[mine, None]
            near += (z > edge[mine, None]).sum()
        entries_per_row = float(share.count(near)) / rows.shape[0]
    if entries_per_row / share.d_sae > DENSE_ABOVE:
        return "dense"
    return {"auto": "screened", "float32": "sparse"}.get(settings.encoder, settings.encoder)


def _check_layout(state: TrainState) -> None:
    """Refuses tensors that are stored in another order than the kernels read."""
    for tensors in (state.parameters, state.second_moments):
        for name, tensor in tensors.items():
            if not (tensor.t() if name == "W_enc" else tensor).is_contiguous():
                shape = "a transposed view of contiguous rows" if name == "W_enc" else "contiguous"
                raise ValueError(
                    f"{name} must be {shape} for triton, got strides {tensor.stride()}; "
                    "see `Parameters`"
                )


def _sparse_step(
    state: TrainState,
    x: Tensor,
    target: Tensor,
    settings: StepSettings,
    share: Share,
    path: str,
) -> StepResult | None:
    """The step over the entries, which are found as `path` says. None if they are too many."""
    p, batch = state.parameters, x.shape[0]
    x_in, mine = x - p.b_dec if settings.pre_bias else x, share.my_rows(batch)
    entries = FIND[path](state, x_in[mine], settings.bandwidth / 2, share)
    capacity = most_entries(share, batch)
    n = capacity + 1 if entries is None else entries.rows.shape[0]
    if int(share.count(x.new_tensor(n, dtype=torch.int64))) > capacity and share.rows is None:
        return None  # on all ranks
    base = p.b_dec - target[mine]
    if p.W_skip is not None:
        base += product(x[mine], p.W_skip)
    rows = None if entries is None else _pass_rows(state, entries, base, share, 2 / batch)
    if share.rows is not None:
        entries, rows = _of_all_rows(share.rows, p.theta, entries, rows, capacity, batch)
    if entries is None or rows is None:
        return None
    fired = torch.empty_like(entries.length)
    places = (entries.start, entries.length, entries.z)
    count_fired[(p.d_sae,)](*places, p.theta, fired, BLOCK=64, **FUSED)
    result, slopes = report(rows.loss, rows.l0, fired, settings, share, f"triton/{path}")
    if result.finite:
        entries_per_row = float(share.count(entries.length.sum())) / batch
        copy = make_copy(state) if path in ("screened", "bfloat16") else None
        if copy is None:
            state.scratch.clear()
        by_shard = _update_touched(
            state, entries, x_in, rows.residual, slopes, settings, share, copy
        )
        encoder_bias = base.new_zeros(p.d_in)
        if settings.pre_bias:
            encoder_bias = share.add(lambda shard: by_shard[shard - share.first])
        state.n_updates += 1
        dense.update_shared(state, x, rows.residual, encoder_bias, settings)
        state.entries_per_row = entries_per_row
    return result


class _Rows(NamedTuple):
    """What a pass over the rows finds: residual float32 [batch, d_out], its squared norm float32
    [batch], and ‖f‖₀ int64 [batch]."""

    residual: Tensor
    loss: Tensor
    l0: Tensor


def _of_all_rows(
    blocks: RowBlocks,
    theta: Tensor,
    entries: Entries | None,
    rows: _Rows | None,
    capacity: int,
    batch: int,
) -> tuple[Entries | None, _Rows | None]:
    """Joins what each rank has found about its own rows into what one process would have found
    about the whole batch; (None, None) on all ranks if the entries are too many."""
    own = (
        None
        if entries is None
        else ListedEntries(*(getattr(entries, at) for at in ListedEntries._fields))
    )
    found = blocks.listed(own, capacity, batch, theta)
    if found is None or rows is None:
        return None, None
    return Entries(*found, capacity), _Rows(*blocks.residuals(*rows, batch))


def _pass_rows(
    state: TrainState, entries: Entries, base: Tensor, share: Share, scale: float
) -> _Rows:
    """Decodes rows, adds up x̂ over the ranks, and differentiates.

    Args:
        state: only read.
        entries: df is written.
        base: float32 [batch, d_out], b_dec (+ skip) − target; residual = Σ f·W_dec + base.
        share: the latents owned.
        scale: 2/batch; the loss's gradient by x̂ is scale·residual.
    """
    p, batch = state.parameters, base.shape[0]
    by_row = list_by_row(entries, batch)
    found = _Rows(torch.empty_like(base), base.new_empty(batch), by_row.start.new_empty(batch))

    width = triton.next_power_of_2(p.d_out)
    fits = width <= WIDEST

    def run(ends: tuple[Tensor, ...], decodes: bool, differentiates: bool, rows: _Rows) -> None:
        passes = [(decodes, differentiates, width)]
        if not fits:
            passes = [(True, False, WIDEST)] * decodes + [(False, True, width)] * differentiates
        for decode, differentiate, columns in passes:
            pass_rows[(batch, triton.cdiv(p.d_out, columns))](
                int(decode), int(differentiate), *ends, by_row.entry, by_row.latent,
                entries.z, entries.df, p.theta, p.W_dec, base, *rows,
                scale, share.size, share.first, p.d_out, num_warps=WARPS,
                MAY_DECODE=fits or decode, MAY_DIFFERENTIATE=fits or differentiate,
                **whole_row(columns),
            )  # fmt: skip

    every = by_row.start[:-1], by_row.start[1:]
    if share.is_whole:
        run(every, True, True, found)
        return found
    x_hats, l0 = [], torch.zeros_like(found.l0)
    for shards in share.nodes():
        x_hat = torch.empty_like(base)
        edges = share.latents(shards[0]).start, share.latents(shards[-1]).stop
        run(by_row.between(*edges), True, False, found._replace(residual=x_hat))
        x_hats.append(Node(shards[0], x_hat))
        l0 += found.l0
    found = found._replace(residual=share.reduce(x_hats), l0=share.count(l0))
    run(every, False, True, found)
    return found


def _update_touched(
    state: TrainState,
    entries: Entries,
    x: Tensor,
    residual: Tensor,
    slopes: Slopes,
    settings: StepSettings,
    share: Share,
    copy: RoundedWeights | None,
) -> Tensor:
    """Updates every latent that has entries; returns each shard's part of b_dec's gradient through
    the encoder, float32 [shards, d_in]."""
    p, v = state.parameters, state.second_moments
    n_shards, n_groups = len(share.shards()), triton.cdiv(share.size, GROUP)
    encoder_bias = x.new_empty(n_shards * n_groups, p.d_in)
    # Without a copy its pointers are never read; theta stands in for them.
    kept = tuple(copy) if copy is not None else (p.theta, p.theta, p.theta)
    listed = (entries.start, entries.length, entries.rows, entries.z, entries.df)
    update_touched[(n_shards * n_groups,)](
        listed, x, residual, tuple(slopes), _owned(p), _owned(v), state.last_update, kept,
        encoder_bias, (p.d_sae, p.d_in, p.d_out, share.size, n_groups), state.n_updates + 1,
        (2 / x.shape[0], settings.bandwidth / 2, math.log2(settings.beta2)),
        _adam_scalars(state, settings), float(settings.theta_floor),
        LOG_THETA=settings.theta_form == "log", HAS_COPY=copy is not None, GROUP=GROUP,
        IN_WIDTH=triton.next_power_of_2(p.d_in), OUT_WIDTH=triton.next_power_of_2(p.d_out),
        AT_ONCE=min(at_once(p.d_in), at_once(p.d_out)), num_warps=WARPS, **FUSED,
    )  # fmt: skip
    by_shard = x.new_empty(n_shards, p.d_in)
    grid = (n_shards, triton.cdiv(p.d_in, BLOCK))
    add_groups[grid](encoder_bias, by_shard, n_groups, p.d_in, BLOCK=BLOCK, **FUSED)
    return by_shard


def _owned(p: Parameters) -> tuple[Tensor, ...]:
    """What latents own, in the kernels' order: W_enc rows, b_enc, W_dec, theta."""
    return p.W_enc.t(), p.b_enc, p.W_dec, p.theta


def _adam_scalars(state: TrainState, settings: StepSettings) -> tuple[float, float, float, float]:
    """lr, 1 − β2, 1/(1 − β2^t) and eps of the next update."""
    # An lr of 0 or 1 given as an integer would compile another kernel.
    correction = 1 / (1 - settings.beta2 ** (state.n_updates + 1))
    return float(settings.lr), 1 - settings.beta2, correction, float(settings.eps)
