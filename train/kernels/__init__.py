"""One JumpReLU training step behind one interface; backends differ in speed, not in meaning.

    reference   dense autograd, any device: the meaning of a step
    cpu         numba: one dense product, the rest proportional to the active entries
    triton      the same on CUDA

Imports torch and numpy; numba or triton only when their backend is used. Knows no store, schedule
or trainer.
"""

import importlib
import importlib.util
import os
from typing import Any

import torch
from torch import Tensor

from .precision import exact_products
from .result import StepResult, not_finite
from .row_blocks import RowBlocks
from .settings import Encoder, StepSettings
from .shards import Node, Reduce, Share, TreeSum
from .state import Parameters, TrainState, bytes_needed, initial_parameters

__all__ = [
    "Encoder",
    "Node",
    "Parameters",
    "Reduce",
    "RowBlocks",
    "Share",
    "StepResult",
    "StepSettings",
    "TrainState",
    "TreeSum",
    "available_backends",
    "backend_paths",
    "bytes_needed",
    "choose_backend",
    "initial_parameters",
    "step",
]

_BACKENDS = {
    "cpu": ("cpu.backend", "numba"),
    "triton": ("triton.backend", "triton"),
    "reference": ("reference", "torch"),
}
"""Name -> its module, and the package that it needs."""


def step(
    state: TrainState,
    x: Tensor,
    target: Tensor,
    settings: StepSettings,
    backend: str = "auto",
    share: Share | None = None,
) -> StepResult:
    """One training step; updates `state` in place and reports the loss before the update.

        x_in = x − b_dec (x without pre_bias)
        z = x_in @ W_enc + b_enc;  f = z·1[z > θ];  x̂ = f @ W_dec + b_dec (+ x @ W_skip)
        loss = mean over rows of ‖target − x̂‖² + penalty (see `StepSettings`)

        e = 2(x̂ − target)/batch;  df = e @ W_decᵀ;  dz = 1[z > θ]·df
        dW_enc = x_inᵀ @ dz;  db_enc = Σ dz;  dW_dec = fᵀ @ e;  dW_skip = xᵀ @ e
        db_dec = Σ e − W_enc @ db_enc (Σ e without pre_bias)
        dθ = −Σ K((z − θ)/ε)·(θ·df + slope of the penalty)/ε,  K(u) = 1[|u| < 1/2]

    Sums run over rows. dθ is the pseudo-gradient of arXiv 2407.14435, equations 11 and 12. The
    component of dW_dec along each row of W_dec is removed. Then Adam with β1 = 0 updates every
    parameter, and W_dec's rows are scaled back to unit norm. If the loss is not finite, the state
    stays as it was and the result says so.

    Args:
        state: updated in place.
        x: float32 [batch, d_in], scaled rows; any strides (copied unless contiguous).
        target: float32 [batch, d_out]; x itself for an SAE.
        settings: this step's learning rate, λ and forms.
        backend: "auto" or one of `available_backends()`; "cpu/sparse" and the like ask for one path
            of a backend (`PATHS` in its module), for benchmarks and tests.
        share: the part of the step that this process computes; by default all of it. Every rank
            passes the same x, target and settings (`latent_weight` of its own latents only).
            A share of the latents: `state` holds these latents, and they, b_dec and W_skip get the
            same bits as in one process. A share of the rows (`share.rows`): every rank holds all
            latents, finds the entries of its own rows, and makes the same update.

    Returns:
        The losses over all rows and latents, and how often each latent held here was active.

    Raises:
        ValueError: shapes, dtypes or devices do not fit, or the backend is not available.
    """
    share = share or Share.whole(state.parameters.d_sae)
    _check(state, x, target, settings, share)
    name, _, path = (choose_backend(x.device) if backend == "auto" else backend).partition("/")
    if name not in available_backends(x.device):
        usable = ", ".join(available_backends(x.device))
        raise ValueError(f"backend must be one of {usable} on {x.device.type}, got {name}")
    module = backend_module(name)
    if path and path not in module.PATHS:
        raise ValueError(f"path of {name} must be one of {', '.join(module.PATHS)}, got {path}")
    # `exact_products` lets one step run at a time: a backend's workspace serves one step.
    with torch.no_grad(), exact_products(x.device.type):
        # Before anything is computed: one NaN would make every latent an entry of its row, and the
        # screen's bound would let every pair pass.
        bad = ~_all_finite(state, x, target)
        if int(share.count(bad.long())):
            return not_finite(state.last_update, f"{name}/{path}".rstrip("/"))
        # The kernels read rows as one block of memory.
        return module.step(state, x.contiguous(), target.contiguous(), settings, share, path)


def available_backends(device: str | torch.device = "cpu") -> list[str]:
    """Backends that can run on `device`, fastest first; triton on a CPU if it is interpreted."""
    kind = torch.device(device).type
    names = {"cpu": ["cpu", "reference"], "cuda": ["triton", "reference"]}.get(kind, ["reference"])
    if kind == "cpu" and os.environ.get("TRITON_INTERPRET") == "1":
        names.append("triton")
    return [name for name in names if importlib.util.find_spec(_BACKENDS[name][1]) is not None]


def backend_paths(name: str) -> tuple[str, ...]:
    """The paths of a backend that `step` accepts after its name; "auto" has none."""
    return () if name == "auto" else backend_module(name).PATHS


def choose_backend(device: str | torch.device = "cpu") -> str:
    """The fastest backend for `device`."""
    return available_backends(device)[0]


def backend_module(name: str) -> Any:
    """A backend's module (`step`, `PATHS`), imported when it is first used."""
    return importlib.import_module(f".{_BACKENDS[name][0]}", __name__)


def _all_finite(state: TrainState, x: Tensor, target: Tensor) -> Tensor:
    """Whether x, target, b_dec, b_enc and θ hold no NaN or infinity; a bool on their device."""
    p = state.parameters
    rows = (x,) if target is x else (x, target)
    bounds = [torch.stack(torch.aminmax(t)) for t in (*rows, p.b_dec, p.b_enc, p.theta)]
    return torch.cat(bounds).isfinite().all()


def _check(
    state: TrainState, x: Tensor, target: Tensor, settings: StepSettings, share: Share
) -> None:
    """Refuses what would otherwise broadcast or fail deep inside a kernel."""
    parameters = state.parameters
    for name, rows, width in (("x", x, parameters.d_in), ("target", target, parameters.d_out)):
        if rows.ndim != 2 or rows.shape[1] != width or rows.shape[0] == 0:
            raise ValueError(f"{name} must be rows of width {width}, got {tuple(rows.shape)}")
        if rows.dtype != torch.float32:
            raise ValueError(f"{name} must be float32, got {rows.dtype}; call .float()")
        if rows.device != parameters.theta.device:
            raise ValueError(
                f"{name} must be on {parameters.theta.device}, got {rows.device}; move it there"
            )
    if x.shape[0] != target.shape[0]:
        raise ValueError(f"target must have x's {x.shape[0]} rows, got {target.shape[0]}")
    if share.n_latents != parameters.d_sae:
        raise ValueError(
            f"state must hold the {share.n_latents} latents of its share, got {parameters.d_sae}"
        )
    if settings.pre_bias and parameters.d_in != parameters.d_out:
        raise ValueError(
            f"pre_bias must be off when d_in and d_out differ, got {parameters.d_in} and "
            f"{parameters.d_out}"
        )
    weight = settings.latent_weight
    if weight is not None and weight.shape != parameters.theta.shape:
        raise ValueError(
            f"latent_weight must be one weight a latent ({parameters.d_sae}), "
            f"got {list(weight.shape)}"
        )
