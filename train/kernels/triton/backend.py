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

import torch
import triton
from torch import Tensor

from .. import reference
from ..precision import float32_sums, products
from ..result import Slopes, StepResult, report
from ..screen import entry_edge, proposal_edge, row_terms
from ..settings import StepSettings
from ..state import Parameters, TrainState
from . import entries as triton_entries
from . import update as triton_update
from .lists import Copy, Entries, list_by_row, make_copy, slices

PATHS = ("dense", "sparse", "screened", "bfloat16", "tf32")
# Share of the latents with an entry, per row, above which the dense products are the faster step.
# From the CPU's measurements; to be measured again on a GPU.
DENSE_ABOVE = 0.10
# Entries that are listed whatever their share; and the share from which the lists (40 bytes an
# entry while they are sorted) outgrow the dense step (16 bytes a pair), which is then taken.
ALWAYS_LISTED = 2**24
LISTED_BELOW = 0.4
CALIBRATION_ROWS = 64
# Warps of the kernels that hold whole rows: with 4, rows of 3,584 need more than a thread's 255
# registers.
WARPS = 8
# Products and sums are fused, as they were when the tolerances were set: Triton's default changes.
FUSED = {"enable_fp_fusion": True}
# Rows a scanning program reads at once; latents per updating program (fixed: sums are kept per
# group, so results do not depend on the device's size).
BLOCK = 1024
GROUP = 32


def step(
    state: TrainState, x: Tensor, target: Tensor, settings: StepSettings, path: str = ""
) -> StepResult:
    """One step by the given path, or by the one that the density calls for; see `kernels.step`."""
    _check_layout(state)
    with torch.cuda.device_of(x):  # kernels start on the current device
        path = path or choose_path(state, x, settings)
        result = None if path == "dense" else _sparse_step(state, x, target, settings, path)
        return result or _dense_step(state, x, target, settings)


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


def _check_layout(state: TrainState) -> None:
    """Refuses tensors that the kernels would read in another order than they are stored in."""
    for tensors in (state.parameters, state.second_moments):
        for name, tensor in tensors.items():
            if not (tensor.t() if name == "W_enc" else tensor).is_contiguous():
                shape = "a transposed view of contiguous rows" if name == "W_enc" else "contiguous"
                raise ValueError(
                    f"{name} must be {shape} for triton, got strides {tensor.stride()}; "
                    "see `Parameters`"
                )


def _dense_step(state: TrainState, x: Tensor, target: Tensor, settings: StepSettings) -> StepResult:
    """The reference's step."""
    state.scratch.clear()
    result = reference.step(state, x, target, settings)
    result.path = "triton/dense"
    return result


def _sparse_step(
    state: TrainState, x: Tensor, target: Tensor, settings: StepSettings, path: str
) -> StepResult | None:
    """The step over the entries; path says how they are found. None if they are too many."""
    p, batch = state.parameters, x.shape[0]
    x_in = x - p.b_dec if settings.pre_bias else x
    entries = _FIND[path](state, x_in, settings.bandwidth / 2)
    if entries is None:
        return None
    by_row = list_by_row(entries, batch)
    residual = p.b_dec - target
    if p.W_skip is not None:
        residual.addmm_(x, p.W_skip)
    row_loss, row_l0 = residual.new_empty(batch), by_row.start.new_empty(batch)
    triton_update.reconstruct[(batch,)](
        *by_row, entries.z, p.theta, p.W_dec, 2 / batch, residual, entries.df, row_loss, row_l0,
        p.d_out, **_whole_row(p.d_out), num_warps=WARPS,
    )  # fmt: skip
    fired = torch.empty_like(entries.length)
    places = (entries.start, entries.length, entries.z)
    triton_entries.count_fired[(p.d_sae,)](*places, p.theta, fired, BLOCK=64, **FUSED)
    result, slopes = report(row_loss, row_l0, fired, settings, f"triton/{path}")
    if result.finite:
        copy = make_copy(state) if path in ("screened", "bfloat16") else None
        if copy is None:
            state.scratch.clear()
        encoder_bias = _update_touched(state, entries, x_in, residual, slopes, settings, copy)
        _update_shared(state, x, residual, encoder_bias, settings)
        state.density = float(entries.length.sum()) / batch
    return result


def _find_entries(state: TrainState, x: Tensor, half: float) -> Entries | None:
    """All entries by a float32 product."""
    return _list_entries(state, state.parameters.W_enc.t(), x, half)


def _tf32_entries(state: TrainState, x: Tensor, half: float) -> Entries | None:
    """All entries by a product whose factors are rounded to TF32."""
    with products(cuda="tf32"):
        return _find_entries(state, x, half)


def _round_entries(state: TrainState, x: Tensor, half: float) -> Entries | None:
    """The entries of a bfloat16 product, whose z is its output (rounded to bfloat16) plus bias."""
    with float32_sums():
        return _list_entries(state, make_copy(state).weights, x.bfloat16(), half)


def _list_entries(state: TrainState, W: Tensor, x: Tensor, half: float) -> Entries | None:
    """The entries of the product of W [d_sae, d_in] with rows of its dtype."""
    p, edge = state.parameters, entry_edge(state.parameters.theta, half)
    entries = _no_entries(state, x)
    for mine in slices(p.d_sae, x.shape[0]):
        product = W[mine] @ x.t()
        grid, own = (product.shape[0],), (p.b_enc[mine], edge[mine])
        start, length = entries.start[mine], entries.length[mine]
        size = {"batch": x.shape[0], "BLOCK": BLOCK, **FUSED}
        triton_entries.count_entries[grid](product, *own, length, **size)
        if not entries.place(mine):
            return None
        triton_entries.fill_entries[grid](product, *own, start, entries.rows, entries.z, **size)
    return entries


def _screen_entries(state: TrainState, x: Tensor, half: float) -> Entries | None:
    """The same entries with the same z, proposed by a bfloat16 product."""
    p = state.parameters
    edge, copy, x16 = entry_edge(p.theta, half), make_copy(state), x.bfloat16()
    terms = row_terms(x, x16)
    low = proposal_edge(edge, p.b_enc, terms, copy.rounded_norm, copy.error_norm)
    entries = _no_entries(state, x)
    with float32_sums():  # the bound holds for them only
        for mine in slices(p.d_sae, x.shape[0]):
            product = copy.weights[mine] @ x16.t()
            bound = (low[mine], *terms, copy.rounded_norm[mine], copy.error_norm[mine])
            start, length = entries.start[mine], entries.length[mine]
            grid, size = (product.shape[0],), {"batch": x.shape[0], "BLOCK": BLOCK, **FUSED}
            triton_entries.count_proposals[grid](product, *bound, length, **size)
            if not entries.place(mine):
                return None
            triton_entries.fill_proposals[grid](product, *bound, start, entries.rows, **size)
    triton_entries.keep_entries[(p.d_sae,)](
        x, p.W_enc.t(), p.b_enc, edge, entries.start, entries.length, entries.rows, entries.z,
        x.shape[0], p.d_in, **_whole_row(p.d_in),
    )  # fmt: skip
    return entries


def _no_entries(state: TrainState, x: Tensor) -> Entries:
    """None yet, with room for what may be listed."""
    d_sae, batch = state.parameters.d_sae, x.shape[0]
    return Entries.empty(d_sae, max(ALWAYS_LISTED, int(LISTED_BELOW * d_sae * batch)), x.device)


def _whole_row(d: int) -> dict[str, int | bool]:
    """How a kernel that holds whole rows of width d is compiled."""
    return {"WIDTH": triton.next_power_of_2(d), "AT_ONCE": _at_once(d), **FUSED}


def _at_once(d: int) -> int:
    """Entries whose rows are loaded at once: several loads are under way, and they fit into the
    registers."""
    return 4 if d <= 4096 else 2


_FIND = {
    "sparse": _find_entries,
    "screened": _screen_entries,
    "bfloat16": _round_entries,
    "tf32": _tf32_entries,
}


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
        *_adam_scalars(state, settings), math.log2(settings.beta2), float(settings.theta_floor),
        LOG_THETA=settings.theta_form == "log", HAS_COPY=copy is not None, GROUP=GROUP,
        IN_WIDTH=triton.next_power_of_2(p.d_in), OUT_WIDTH=triton.next_power_of_2(p.d_out),
        AT_ONCE=min(_at_once(p.d_in), _at_once(p.d_out)), num_warps=WARPS, **FUSED,
    )  # fmt: skip
    return encoder_bias.sum(0)


def _owned(p: Parameters) -> tuple[Tensor, ...]:
    """What latents own, in the kernels' order: W_enc rows, b_enc, W_dec, theta."""
    return p.W_enc.t(), p.b_enc, p.W_dec, p.theta


def _adam_scalars(state: TrainState, settings: StepSettings) -> tuple[float, float, float, float]:
    """lr, 1 − β2, 1/(1 − β2^t) and eps of the next update.

    Floats: an lr of 0 or 1 given as an integer would compile a kernel of its own.
    """
    correction = 1 / (1 - settings.beta2 ** (state.n_updates + 1))
    return float(settings.lr), 1 - settings.beta2, correction, float(settings.eps)


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
