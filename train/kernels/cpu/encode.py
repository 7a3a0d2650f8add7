"""The encoder on the CPU: products, and the entries found in them.

The product is made for a slice of latents at a time, latents first ([latents, batch]): memory of
the size [batch, d_sae] is never needed, and each latent's entries come out in order.

The screened encoder is exact: a bfloat16 product only proposes entries, see `screen`. The rounded
one takes the bfloat16 product as it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import llvmlite.binding
import numpy as np
import torch
from torch import Tensor

from ..precision import products
from ..screen import RowTerms, accumulation_error, entry_edge, proposal_edge
from ..state import TrainState
from .entries import (
    Entries,
    Screen,
    keep_entries,
    list_entries,
    list_proposals,
    list_rounded,
    mark_entries,
    mark_proposals,
)
from .threads import blocks_for, run_blocks
from .update import Rounded, prepare_rows, round_all
from .workspace import Workspace

# Entries of a product made at once: memory stays bounded, and slices are so large that slicing
# costs the product nothing (2^22 entries cost it 10%).
SLICE_PRODUCTS = 2**24


class Found(NamedTuple):
    """What encoding a batch gives.

    Attributes:
        x_in: float32 [batch, d_in], the encoder's input: x − b_dec or x.
        entries: the entries.
        fired: int64 [d_sae], in how many rows each latent is active (z > θ).
    """

    x_in: Tensor
    entries: Entries
    fired: Tensor


def find_entries(
    state: TrainState, x: Tensor, half: float, pre_bias: bool, workspace: Workspace
) -> Found:
    """All entries, z > θ − half, by a float32 product; x [batch, d_in], any strides."""
    p = state.parameters
    x_in, _, _ = _encoder_input(state, x, pre_bias, False, workspace)
    W, bias, theta = p.W_enc.t(), p.b_enc.numpy(), p.theta.numpy()
    edge = entry_edge(p.theta, half).numpy()
    start, length, fired = np.empty((3, p.d_sae), np.int64)
    used = 0
    for mine in _slices(p.d_sae, x.shape[0]):
        product = workspace.tensor("product", mine.stop - mine.start, x.shape[0])
        with fast_float32():
            torch.mm(W[mine], x_in.t(), out=product)
        z = product.numpy()
        marks = _marks(workspace, z)
        blocks = min(16, blocks_for(product.numel() // 4))
        run_blocks(mark_entries, blocks, z, bias[mine], edge[mine], marks, length[mine])
        used = _place(length[mine], start[mine], used)
        rows, values = _entry_arrays(workspace, used)
        places = (theta[mine], start[mine], length[mine], rows, values, fired[mine])
        run_blocks(list_entries, blocks, marks, z, bias[mine], *places)
    return Found(x_in, _entries(workspace, start, length, used), torch.from_numpy(fired))


def screen_entries(
    state: TrainState, x: Tensor, half: float, pre_bias: bool, workspace: Workspace
) -> Found:
    """The same entries with the same float32 z, proposed by a bfloat16 product."""
    p = state.parameters
    x_in, x16, terms = _encoder_input(state, x, pre_bias, True, workspace)
    rounded = rounded_copy(state)
    norms = (rounded.rounded_norm, rounded.error_norm)
    edge = entry_edge(p.theta, half)
    low = proposal_edge(edge, p.b_enc, terms, *map(torch.from_numpy, norms)).numpy()
    start, length, fired = np.empty((3, p.d_sae), np.int64)
    used = 0
    for mine, bits in _bfloat16_products(rounded, x16, workspace):
        marks, blocks = _marks(workspace, bits), min(16, blocks_for(bits.size // 4))
        screen = Screen(terms.error.numpy(), terms.norm.numpy(), norms[0][mine], norms[1][mine])
        run_blocks(mark_proposals, blocks, bits, low[mine], screen, marks, length[mine])
        used = _place(length[mine], start[mine], used)
        rows, _ = _entry_arrays(workspace, used)
        run_blocks(list_proposals, blocks, marks, start[mine], length[mine], rows)
    entries = _entries(workspace, start, length, used)
    weights = (p.W_enc.t().numpy(), p.b_enc.numpy(), edge.numpy(), p.theta.numpy())
    run_blocks(keep_entries, blocks_for(p.W_enc.numel()), x_in.numpy(), *weights, entries, fired)
    return Found(x_in, entries, torch.from_numpy(fired))


def round_entries(
    state: TrainState, x: Tensor, half: float, pre_bias: bool, workspace: Workspace
) -> Found:
    """The entries of a bfloat16 product, whose z is its output (rounded to bfloat16) plus bias."""
    p, batch = state.parameters, x.shape[0]
    x_in, x16, _ = _encoder_input(state, x, pre_bias, True, workspace)
    bias, theta = p.b_enc.numpy(), p.theta.numpy()
    rows_exact, latents_exact = torch.zeros(batch), torch.zeros(p.d_sae)
    edge, terms = entry_edge(p.theta, half), RowTerms(rows_exact, rows_exact)
    low = proposal_edge(edge, p.b_enc, terms, latents_exact, latents_exact).numpy()
    row_error, latent_error = rows_exact.numpy(), latents_exact.numpy()
    start, length, fired = np.empty((3, p.d_sae), np.int64)
    used = 0
    for mine, bits in _bfloat16_products(rounded_copy(state), x16, workspace):
        marks, blocks = _marks(workspace, bits), min(16, blocks_for(bits.size // 4))
        screen = Screen(row_error, row_error, latent_error[mine], latent_error[mine])
        run_blocks(mark_proposals, blocks, bits, low[mine], screen, marks, length[mine])
        used = _place(length[mine], start[mine], used)
        rows, values = _entry_arrays(workspace, used)
        places = (theta[mine], start[mine], length[mine], rows, values, fired[mine])
        run_blocks(list_rounded, blocks, marks, bits, bias[mine], *places)
    return Found(x_in, _entries(workspace, start, length, used), torch.from_numpy(fired))


def _bfloat16_products(
    rounded: Rounded, x16: Tensor, workspace: Workspace
) -> Iterator[tuple[slice, np.ndarray]]:
    """Slices of latents and their products with the rows, as bits (uint16 [latents, batch])."""
    W16 = torch.from_numpy(rounded.copy).view(torch.bfloat16)
    for mine in _slices(W16.shape[0], x16.shape[0]):
        shape = (mine.stop - mine.start, x16.shape[0])
        product = workspace.tensor("product", *shape, dtype=torch.bfloat16)
        torch.mm(W16[mine], x16.t(), out=product)
        yield mine, product.view(torch.int16).numpy().view(np.uint16)


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
        run_blocks(round_all, blocks_for(W.numel()), W.numpy(), rounded)
        state.scratch.update(rounded=rounded, rounded_version=version)
    return state.scratch["rounded"]


def no_copy() -> Rounded:
    """An empty copy, for updates that keep none up."""
    norm = np.empty(0, np.float32)
    return Rounded(np.empty((0, 0), np.uint32), np.empty((0, 0), np.uint16), norm, norm)


@contextmanager
def fast_float32() -> Iterator[None]:
    """Within it, float32 products go to oneDNN where that is faster at full float32 accuracy."""
    with products(cpu="bf16" if _onednn_is_better() else "ieee"):
        yield


@cache
def _onednn_is_better() -> bool:
    """Whether "bf16" products are float32-exact here, on a processor where MKL is the slower.

    By the processor's name and by accuracy, not by timing, so that a rerun chooses alike. MKL keeps
    its fastest loops from AMD processors (oneDNN measured 1.9 times as fast on Zen 5).
    """
    if not llvmlite.binding.get_host_cpu_name().startswith("znver"):
        return False
    a, b = torch.randn(2, 128, 512, generator=torch.Generator().manual_seed(0))
    with products(cpu="bf16"):
        error = (a @ b.t()).double() - a.double() @ b.double().t()
    return float(error.norm()) < 1e-6 * 128 * 512**0.5


def _encoder_input(
    state: TrainState, x: Tensor, pre_bias: bool, screened: bool, workspace: Workspace
) -> tuple[Tensor, Tensor, RowTerms]:
    """The encoder's input, its bfloat16 copy and the rows' part of the bound (or empty ones)."""
    batch, d_in = x.shape
    out = workspace.tensor("encoder_input", batch, d_in)
    copy = (batch, d_in) if screened else (0, d_in)
    x16 = workspace.tensor("encoder_input_bfloat16", *copy, dtype=torch.bfloat16)
    terms = RowTerms(torch.empty(batch), torch.empty(batch))
    run_blocks(
        prepare_rows,
        blocks_for(x.numel()),
        x.contiguous().numpy(),
        state.parameters.b_dec.numpy()[: None if pre_bias else 0],
        np.float32(accumulation_error(x)),
        out.numpy(),
        out.numpy().view(np.uint32),
        x16.view(torch.int16).numpy().view(np.uint16),
        terms.error.numpy(),
        terms.norm.numpy(),
    )
    return out, x16, terms


def _marks(workspace: Workspace, product: np.ndarray) -> np.ndarray:
    """uint8 marks for a slice of products, each row in whole words of eight."""
    width = -(-product.shape[1] // 8) * 8
    return workspace.tensor("marks", product.shape[0], width, dtype=torch.uint8).numpy()


def _slices(d_sae: int, batch: int) -> Iterator[slice]:
    """Slices of latents whose products with the batch number SLICE_PRODUCTS at most, in order."""
    width = max(1, SLICE_PRODUCTS // batch)
    for first in range(0, d_sae, width):
        yield slice(first, min(first + width, d_sae))


def _place(length: np.ndarray, start: np.ndarray, used: int) -> int:
    """Lays the counted entries behind the `used` ones; returns how many are used then."""
    end = used + np.cumsum(length)
    start[:] = end - length
    return int(end[-1])


def _entry_arrays(workspace: Workspace, n: int) -> tuple[np.ndarray, np.ndarray]:
    """rows and z for n entries, those written so far kept."""
    return workspace.grown("rows", n, torch.int32), workspace.grown("z", n, torch.float32)


def _entries(workspace: Workspace, start: np.ndarray, length: np.ndarray, n: int) -> Entries:
    """The finished entries, n of them with the gaps."""
    rows, z = _entry_arrays(workspace, n)
    return Entries(start, length, rows, z, workspace.grown("df", n, torch.float32))
