"""The step on CUDA by Triton kernels; the same step as `cpu`, under the interpreter also on a CPU.

    entries   a product per slice of latents (cuBLAS), then `triton_entries` counts and lists what
              lies above the window; "screened" multiplies bfloat16 and recomputes the proposals
    rows      `triton_update.reconstruct`: x̂, the residual, df of each row's entries
    latents   `triton_update.update_touched`: gradients, Adam, renormalisation of touched latents

Deterministic: no atomics, fixed orders of summation, stable sorting. The dense path, for the first
steps while many latents fire, is the reference's.
"""

# pyright: reportArgumentType=false, reportCallIssue=false
# (kernels are launched through triton.jit, which the checker sees as the plain function)

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import triton
from torch import Tensor

from . import reference, triton_entries, triton_update
from .report import Slopes, StepResult, report
from .screen import entry_edge, proposal_edge, row_terms
from .state import Parameters, TrainState
from .step_settings import StepSettings
from .triton_lists import Copy, Entries, list_by_row, make_copy

PATHS = ("dense", "sparse", "screened", "bfloat16", "tf32")
# Share of the latents with an entry, per row, above which the dense products are the faster step.
# From the CPU's measurements; to be measured again on a GPU.
DENSE_ABOVE = 0.10
# Products a slice may hold: 2^28 bfloat16 are half a gigabyte.
SLICE_PRODUCTS = 2**28
CALIBRATION_ROWS = 64
# Entries whose vectors a program loads at once, to have several loads under way.
AT_ONCE = 4
# Rows a scanning program reads at once; latents per updating program (fixed: sums are kept per
# group, so results do not depend on the device's size).
BLOCK = 1024
GROUP = 32


def step(
    state: TrainState, x: Tensor, target: Tensor, settings: StepSettings, path: str = ""
) -> StepResult:
    """One step by the given path, or by the one that the density calls for; see `kernels.step`."""
    path = path or choose_path(state, x, settings)
    if path == "dense":
        state.scratch.clear()
        result = reference.step(state, x, target, settings)
        result.path = "triton/dense"
        return result
    return _sparse_step(state, x, target, settings, path)


def choose_path(state: TrainState, x: Tensor, settings: StepSettings) -> str:
    """dense, sparse or screened, from the last step's density (or a few of these rows')."""
    if settings.encoder == "tf32" and x.device.type != "cuda":
        raise ValueError("encoder tf32 needs a CUDA device; choose bfloat16, screened or float32")
    p, density = state.parameters, state.density
    if density < 0:
        rows = x[:CALIBRATION_ROWS]
        z = (rows - p.b_dec if settings.pre_bias else rows) @ p.W_enc + p.b_enc
        density = float((z > p.theta - settings.bandwidth / 2).sum()) / rows.shape[0]
    if density / p.d_sae > DENSE_ABOVE:
        return "dense"
    return {"auto": "screened", "float32": "sparse"}.get(settings.encoder, settings.encoder)


def _sparse_step(
    state: TrainState, x: Tensor, target: Tensor, settings: StepSettings, path: str
) -> StepResult:
    """The step over the entries; path says how they are found."""
    p, batch = state.parameters, x.shape[0]
    x_in = x - p.b_dec if settings.pre_bias else x.contiguous()
    entries = _FIND[path](state, x_in, settings.bandwidth / 2)
    by_row = list_by_row(entries, batch)
    residual = p.b_dec - target
    if p.W_skip is not None:
        residual.addmm_(x, p.W_skip)
    row_loss, row_l0 = residual.new_empty(batch), by_row.start.new_empty(batch)
    triton_update.reconstruct[(batch,)](
        *by_row, entries.z, p.theta, p.W_dec, 2 / batch, residual, entries.df, row_loss, row_l0,
        p.d_out, WIDTH=triton.next_power_of_2(p.d_out), AT_ONCE=AT_ONCE,
    )  # fmt: skip
    fired = torch.empty_like(entries.length)
    places = (entries.start, entries.length, entries.z)
    triton_entries.count_fired[(p.d_sae,)](*places, p.theta, fired, BLOCK=64)
    result, slopes = report(row_loss, row_l0, fired, settings, f"triton/{path}")
    if result.finite:
        copy = make_copy(state) if path in ("screened", "bfloat16") else None
        if copy is None:
            state.scratch.clear()
        encoder_bias = _update_touched(state, entries, x_in, residual, slopes, settings, copy)
        _update_shared(state, x, residual, encoder_bias, settings)
        state.density = float(entries.length.sum()) / batch
    return result


def _find_entries(state: TrainState, x: Tensor, half: float) -> Entries:
    """All entries by a float32 product."""
    return _list_entries(state, state.parameters.W_enc.t(), x, half)


def _tf32_entries(state: TrainState, x: Tensor, half: float) -> Entries:
    """All entries by a product whose factors are rounded to TF32."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        return _find_entries(state, x, half)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _round_entries(state: TrainState, x: Tensor, half: float) -> Entries:
    """The entries of a bfloat16 product, whose z is its output (rounded to bfloat16) plus bias."""
    with _float32_sums():
        return _list_entries(state, make_copy(state).weights, x.bfloat16(), half)


def _list_entries(state: TrainState, W: Tensor, x: Tensor, half: float) -> Entries:
    """The entries of the product of W [d_sae, d_in] with rows of its dtype."""
    p, edge = state.parameters, entry_edge(state.parameters.theta, half)
    entries = Entries.empty(p.d_sae, x.device)
    for mine in _slices(p.d_sae, x.shape[0]):
        product = W[mine] @ x.t()
        grid, own = (product.shape[0],), (p.b_enc[mine], edge[mine])
        start, length = entries.start[mine], entries.length[mine]
        size = {"batch": x.shape[0], "BLOCK": BLOCK}
        triton_entries.count_entries[grid](product, *own, length, **size)
        entries.place(mine)
        triton_entries.fill_entries[grid](product, *own, start, entries.rows, entries.z, **size)
    return entries


def _screen_entries(state: TrainState, x: Tensor, half: float) -> Entries:
    """The same entries with the same z, proposed by a bfloat16 product."""
    p = state.parameters
    edge, copy, x16 = entry_edge(p.theta, half), make_copy(state), x.bfloat16()
    terms = row_terms(x, x16)
    low = proposal_edge(edge, p.b_enc, terms, copy.rounded_norm, copy.error_norm)
    entries = Entries.empty(p.d_sae, x.device)
    with _float32_sums():  # the bound holds for them only
        for mine in _slices(p.d_sae, x.shape[0]):
            product = copy.weights[mine] @ x16.t()
            bound = (low[mine], *terms, copy.rounded_norm[mine], copy.error_norm[mine])
            start, length = entries.start[mine], entries.length[mine]
            grid, size = (product.shape[0],), {"batch": x.shape[0], "BLOCK": BLOCK}
            triton_entries.count_proposals[grid](product, *bound, length, **size)
            entries.place(mine)
            triton_entries.fill_proposals[grid](product, *bound, start, entries.rows, **size)
    triton_entries.keep_entries[(p.d_sae,)](
        x, p.W_enc.t(), p.b_enc, edge, entries.start, entries.length, entries.rows, entries.z,
        x.shape[0], p.d_in, WIDTH=triton.next_power_of_2(p.d_in), AT_ONCE=AT_ONCE,
    )  # fmt: skip
    return entries


@contextmanager
def _float32_sums() -> Iterator[None]:
    """Within it, bfloat16 products are summed in float32 throughout."""
    before = torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = before


_FIND = {
    "sparse": _find_entries,
    "screened": _screen_entries,
    "bfloat16": _round_entries,
    "tf32": _tf32_entries,
}


def _slices(d_sae: int, batch: int) -> list[slice]:
    """Slices of latents whose products fit SLICE_PRODUCTS."""
    width = max(1, SLICE_PRODUCTS // batch)
    return [slice(first, min(first + width, d_sae)) for first in range(0, d_sae, width)]


def _update_touched(
    state: TrainState,
    entries: Entries,
    x: Tensor,
    residual: Tensor,
    slopes: Slopes,
    settings: StepSettings,
    copy: Copy | None,
) -> Tensor:
    """Updates all that touched latents own; returns the encoder's part of b_dec's gradient."""
    p, v = state.parameters, state.second_moments
    n_groups = triton.cdiv(p.d_sae, GROUP)
    encoder_bias = x.new_empty(n_groups, p.d_in)
    # Without a copy its pointers are never read; theta stands in for them.
    kept = tuple(copy) if copy is not None else (p.theta, p.theta, p.theta)
    triton_update.update_touched[(n_groups,)](
        entries.start, entries.length, entries.rows, entries.z, entries.df, x, residual, *slopes,
        *_owned(p), *_owned(v), state.last_update, *kept, encoder_bias,
        p.d_sae, p.d_in, p.d_out, state.n_updates + 1, 2 / x.shape[0], settings.bandwidth / 2,
        *_adam_scalars(state, settings), math.log2(settings.beta2), settings.theta_floor,
        LOG_THETA=settings.theta_form == "log", HAS_COPY=copy is not None, GROUP=GROUP,
        IN_WIDTH=triton.next_power_of_2(p.d_in), OUT_WIDTH=triton.next_power_of_2(p.d_out),
        AT_ONCE=AT_ONCE,
    )  # fmt: skip
    return encoder_bias.sum(0)


def _owned(p: Parameters) -> tuple[Tensor, ...]:
    """What latents own, in the kernels' order: W_enc rows, b_enc, W_dec, theta."""
    return p.W_enc.t(), p.b_enc, p.W_dec, p.theta


def _adam_scalars(state: TrainState, settings: StepSettings) -> tuple[float, float, float, float]:
    """lr, 1 − β2, 1/(1 − β2^t) and eps of the next update."""
    correction = 1 / (1 - settings.beta2 ** (state.n_updates + 1))
    return settings.lr, 1 - settings.beta2, correction, settings.eps


def _update_shared(
    state: TrainState, x: Tensor, residual: Tensor, encoder_bias: Tensor, settings: StepSettings
) -> None:
    """Updates b_dec and W_skip; counts the update."""
    p, v = state.parameters, state.second_moments
    scale = 2 / x.shape[0]
    b_dec = residual.sum(0) * scale
    gradients = {"b_dec": b_dec + encoder_bias if settings.pre_bias else b_dec}
    if p.W_skip is not None:
        gradients["W_skip"] = (x.t() @ residual) * scale
    lr, fresh, correction, eps = _adam_scalars(state, settings)
    for name, gradient in gradients.items():
        moment = getattr(v, name).mul_(settings.beta2).addcmul_(gradient, gradient, value=fresh)
        getattr(p, name).sub_(gradient / ((moment * correction).sqrt_() + eps), alpha=lr)
    state.n_updates += 1
