"""The encoder on the CPU: products, and the entries found in them.

The product is made for a slice of latents at a time, latents first ([latents, batch]): its scan
reads it from cache, memory of the size [batch, d_sae] is never needed, and each latent's entries
come out in order.

The screened encoder is exact. A product of bfloat16 copies x' and w' only proposes entries: with
float32 sums (error γ = d·2^-24 for any order of summation), by Cauchy–Schwarz,

    |x'·w' (computed) − x·w| ≤ ‖x' − x‖·‖w'‖ + ‖x‖·‖w' − w‖ + γ·‖x'‖·‖w'‖,

with the norms of the actual rounding errors, about half of the worst case. Rounding the product to
bfloat16 is monotone and moves a threshold t by at most 2^-8·|t|. Every entry lies within the bound;
the proposals' z are recomputed in float32.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import llvmlite.binding
import numpy as np
import torch
from torch import Tensor

from .cpu_entries import (
    Entries,
    Screen,
    count_entries,
    count_proposals,
    fill_entries,
    fill_proposals,
    keep_entries,
)
from .cpu_threads import run_blocks
from .cpu_update import Rounded, round_all
from .cpu_workspace import Workspace
from .state import TrainState

# Latents a product is made for at once: enough for the product's own efficiency, few enough for
# [slice, batch] to stay in the last-level cache.
SLICE = 2048
# Blocks of the scanning loops; more than threads, so that a disturbed thread holds up little.
N_BLOCKS = 16
# Unit roundoffs: half the distance of neighbouring numbers, relative.
UNIT_FLOAT32, UNIT_BFLOAT16 = 2.0**-24, 2.0**-8


def find_entries(state: TrainState, x: Tensor, half: float, workspace: Workspace) -> Entries:
    """All entries, z > θ − half, by a float32 product; x [batch, d_in] contiguous."""
    p = state.parameters
    W, bias, edge = p.W_enc.t(), p.b_enc.numpy(), _edge(state, half)
    start, count = np.empty((2, p.d_sae), np.int64)
    used = 0
    for mine in _slices(p.d_sae):
        product = workspace.tensor("product", mine.stop - mine.start, x.shape[0])
        with fast_float32():
            torch.mm(W[mine], x.t(), out=product)
        z = product.numpy()
        run_blocks(count_entries, N_BLOCKS, z, bias[mine], edge[mine], count[mine])
        used = _place(count[mine], start[mine], used)
        rows, values = _entry_arrays(workspace, used)
        places = (start[mine], count[mine], rows, values)
        run_blocks(fill_entries, N_BLOCKS, z, bias[mine], edge[mine], *places)
    return _entries(workspace, start, count, used)


def screen_entries(state: TrainState, x: Tensor, half: float, workspace: Workspace) -> Entries:
    """The same entries with the same float32 z, proposed by a bfloat16 product."""
    p = state.parameters
    bias, edge = p.b_enc.numpy(), _edge(state, half)
    rounded = rounded_copy(state)
    W16 = torch.from_numpy(rounded.copy).view(torch.bfloat16)
    x16 = x.bfloat16()
    screen = _screen(x, x16, rounded)
    low = _proposal_edge(edge, bias, screen)
    start, count = np.empty((2, p.d_sae), np.int64)
    used = 0
    for mine in _slices(p.d_sae):
        shape = (mine.stop - mine.start, x.shape[0])
        product = workspace.tensor("product", *shape, dtype=torch.bfloat16)
        torch.mm(W16[mine], x16.t(), out=product)
        bits = product.view(torch.int16).numpy().view(np.uint16)
        norms = (screen.rounded_norm[mine], screen.error_norm[mine])
        own = Screen(screen.row_error, screen.row_norm, *norms)
        run_blocks(count_proposals, N_BLOCKS, bits, low[mine], own, count[mine])
        used = _place(count[mine], start[mine], used)
        rows, _ = _entry_arrays(workspace, used)
        places = (start[mine], count[mine], rows)
        run_blocks(fill_proposals, N_BLOCKS, bits, low[mine], own, *places)
    entries = _entries(workspace, start, count, used)
    run_blocks(keep_entries, 4 * N_BLOCKS, x.numpy(), p.W_enc.t().numpy(), bias, edge, entries)
    return entries


def rounded_copy(state: TrainState) -> Rounded:
    """The bfloat16 copy of W_enc, made anew if anyone but the update has written to W_enc since.

    The compiled update keeps the copy and does not move torch's version counter; all else does.
    """
    W = state.parameters.W_enc.t()
    version = (W.data_ptr(), W._version)
    if state.scratch.get("rounded_version") != version:
        bits = W.numpy().view(np.uint32)
        norms = np.empty((2, W.shape[0]), np.float32)
        rounded = Rounded(bits, np.empty(W.shape, np.uint16), norms[0], norms[1])
        run_blocks(round_all, N_BLOCKS, W.numpy(), rounded)
        state.scratch.update(rounded=rounded, rounded_version=version)
    return state.scratch["rounded"]


def no_copy() -> Rounded:
    """An empty copy, for updates that keep none up."""
    norm = np.empty(0, np.float32)
    return Rounded(np.empty((0, 0), np.uint32), np.empty((0, 0), np.uint16), norm, norm)


@contextmanager
def fast_float32() -> Iterator[None]:
    """Within it, float32 products go to oneDNN where that is faster at full float32 accuracy."""
    if not _onednn_is_better():
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@cache
def _onednn_is_better() -> bool:
    """Whether "medium" products are float32-exact here, on a processor where MKL is the slower.

    By the processor's name and by accuracy, not by timing, so that a rerun chooses alike. MKL keeps
    its fastest loops from AMD processors (oneDNN measured 1.9 times as fast on Zen 5).
    """
    if not llvmlite.binding.get_host_cpu_name().startswith("znver"):
        return False
    a, b = torch.randn(2, 128, 512, generator=torch.Generator().manual_seed(0))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        error = (a @ b.t()).double() - a.double() @ b.double().t()
    finally:
        torch.set_float32_matmul_precision(before)
    return float(error.norm()) < 1e-6 * 128 * 512**0.5


@cache
def bfloat16_is_fast() -> bool:
    """Whether the processor multiplies bfloat16 in hardware; otherwise screening gains nothing."""
    features = llvmlite.binding.get_host_cpu_features()
    return any(features.get(name, False) for name in ("avx512bf16", "amx-bf16", "bf16"))


def _screen(x: Tensor, x16: Tensor, rounded: Rounded) -> Screen:
    """The bound's terms of a batch. γ counts twice: the recomputed z has an error of its own."""
    gamma = 2 * x.shape[1] * UNIT_FLOAT32
    back = x16.float()
    # The norms themselves are float32 sums.
    safety = 1 + gamma
    row_error = ((back - x).norm(dim=1) + gamma * back.norm(dim=1)) * safety
    row_norm = x.norm(dim=1) * safety
    return Screen(row_error.numpy(), row_norm.numpy(), rounded.rounded_norm, rounded.error_norm)


def _proposal_edge(edge: np.ndarray, bias: np.ndarray, screen: Screen) -> np.ndarray:
    """float32 [d_sae]: product + bound above it must be proposed, whatever their rounding did."""
    threshold = edge.astype(np.float64) - bias
    reach = screen.row_error.max() * screen.rounded_norm.astype(np.float64)
    reach += screen.row_norm.max() * screen.error_norm
    slack = 1.01 * UNIT_BFLOAT16 * (np.abs(threshold) + reach)
    # Four float32 roundings on the way: of the bias, of the two terms' sum, and of this edge.
    slack += 8 * UNIT_FLOAT32 * (np.abs(edge) + np.abs(bias) + reach) + 1e-30
    return (threshold - slack).astype(np.float32)


def _edge(state: TrainState, half: float) -> np.ndarray:
    """A float32 no entry's z lies below; the exact window is tested where it is used."""
    theta = state.parameters.theta
    return torch.nextafter(theta - half, torch.full_like(theta, -torch.inf)).numpy()


def _slices(d_sae: int) -> Iterator[slice]:
    """The slices of latents, in order."""
    for first in range(0, d_sae, SLICE):
        yield slice(first, min(first + SLICE, d_sae))


def _place(count: np.ndarray, start: np.ndarray, used: int) -> int:
    """Lays the counted entries behind the `used` ones; returns how many are used then."""
    end = used + np.cumsum(count)
    start[:] = end - count
    return int(end[-1])


def _entry_arrays(workspace: Workspace, n: int) -> tuple[np.ndarray, np.ndarray]:
    """rows and z for n entries, those written so far kept."""
    return workspace.grown("rows", n, torch.int32), workspace.grown("z", n, torch.float32)


def _entries(workspace: Workspace, start: np.ndarray, count: np.ndarray, n: int) -> Entries:
    """The finished entries, n of them with the gaps."""
    rows, z = _entry_arrays(workspace, n)
    return Entries(start, count, rows, z, workspace.grown("df", n, torch.float32))
