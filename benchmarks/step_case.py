"""The cases on which implementations of a training step are compared.

Owns the rows, the parameters and the settings that all share. Needs only torch and numpy.
"""

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass

import torch
from recording import ROOT
from torch import Tensor

N_BATCHES = 4
# So small that no parameter moves. Otherwise an implementation that makes more steps in its seconds
# would end at another L0. The work of a step does not depend on the learning rate.
LR, SPARSITY, BANDWIDTH = 1e-12, 1e-3, 1e-3


@dataclass(frozen=True)
class Run:
    """One implementation, ready for a case: a step on a batch, and its L0 (not timed)."""

    step: Callable[[Tensor], object]
    l0: Callable[[Tensor], float] = lambda _: float("nan")


def count_active(x: Tensor, W: Tensor, bias: Tensor, theta: Tensor, b_dec: Tensor) -> float:
    """The mean L0 of rows with given parameters."""
    rows = x[:256]
    with torch.no_grad():
        return float(((rows - b_dec) @ W + bias > theta).sum()) / rows.shape[0]


def thresholds(width: int, d: int, l0: float, rates: str, device: str) -> Tensor:
    """θ [width] for which a row activates `l0` latents on average, with unit encoder columns.

    z is N(0, 1/d), so a latent that fires on a share r of the rows has θ = Φ⁻¹(1 − r)/√d. Rates r
    are "equal" (the sparse step's worst case: every latent fires in a batch) or "lognormal" (log r
    has σ 2, so that many latents do not fire in a batch, as in a trained SAE).
    """
    r = torch.ones(width, dtype=torch.float64)
    if rates == "lognormal":
        r = torch.randn(width, generator=torch.Generator().manual_seed(2)).double().mul(2).exp()
    for _ in range(20):  # rates above the bound are cut, and the rest is given to the others
        r = (r * (l0 / r.sum())).clamp(max=0.5)
    return (torch.special.ndtri(1 - r) / d**0.5).float().to(device)


@dataclass(frozen=True)
class Case:
    """One shape at one L0 on one device."""

    batch: int
    d: int
    width: int
    l0: float
    device: str

    def batches(self) -> list[Tensor]:
        """The rows that all implementations get."""
        generator = torch.Generator().manual_seed(1)
        rows = torch.randn(N_BATCHES, self.batch, self.d, generator=generator) / self.d**0.5
        return list(rows.to(self.device))

    def parameters(self):
        """New weights, with the θ for which a row of the first batch has `l0` active latents."""
        kernels = load_kernels()
        p = kernels.initial_parameters(self.d, self.d, self.width, 1.0, 0, device=self.device)
        z = (self.batches()[0][:256] @ p.W_enc).flatten()
        rank = round(self.l0 * min(256, self.batch))
        p.theta.fill_(float(torch.topk(z, rank + 1).values[-1]))
        return p


def load_kernels() -> types.ModuleType:
    """The kernels of this checkout, installed or not."""
    if importlib.util.find_spec("scopeworks") is None:
        spec = importlib.util.spec_from_file_location(
            "scopeworks", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
        )
        assert spec is not None and spec.loader is not None
        package = importlib.util.module_from_spec(spec)
        sys.modules["scopeworks"] = package
        spec.loader.exec_module(package)
    return importlib.import_module("scopeworks.train.kernels")
