"""Sums that turn into metrics: per-position means, activation means, firing counts.

Owns streaming accumulation in float64 over the positions that count. Which positions count and what
is measured at them is decided by the caller; language-model losses are `lm_loss`' business.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

MAX_FEATURE_VALUES = 2**25
"""Feature activations held at once (128 MiB in float32): rows are encoded in parts of this many
values.
"""
HISTOGRAM_EDGES = np.round(np.linspace(-7.0, 0.0, 71), 1)
"""Bin edges of the firing-frequency histogram, log10(share of tokens)."""


class PositionMeans:
    """Float64 means of named per-token values, overall and by position in the sequence."""

    def __init__(self, context: int):
        self.count = torch.zeros(context, dtype=torch.float64)
        self._sums: dict[str, Tensor] = {}

    def add(self, keep: Bool[Tensor, "batch seq"], **values: Num[Tensor, "batch seq"]) -> None:
        """Adds a batch; what stands where `keep` is False is ignored, even NaN."""
        self.count += keep.sum(0).cpu()
        for name, value in values.items():
            kept = torch.where(keep, value.double(), 0.0).sum(0).cpu()
            self._sums[name] = self._sums.get(name, 0.0) + kept

    @property
    def n_tokens(self) -> int:
        """Positions counted."""
        return int(self.count.sum())

    def mean(self, name: str) -> float:
        """Mean over all counted positions; NaN if there are none."""
        return float(self._sums[name].sum() / self.count.sum())

    def by_position(self, name: str) -> Float[Tensor, " seq"]:
        """Mean at each position; NaN where none was counted."""
        return self._sums[name] / self.count


class MeanActivation:
    """Float64 mean of a site's activations over counted positions."""

    def __init__(self, d: int):
        self._sum, self.count = torch.zeros(d, dtype=torch.float64), 0

    def add(self, x: Float[Tensor, "batch seq d"], keep: Bool[Tensor, "batch seq"]) -> None:
        """Adds a batch."""
        self._sum += x[keep].double().sum(0).cpu()
        self.count += int(keep.sum())

    @property
    def value(self) -> Float[Tensor, " d"]:
        """E x, float64."""
        return self._sum / self.count


class FeatureMeter:
    """Applies one SAE to activations and counts what its latents do.

    Attributes:
        fired: int64 [d_sae], counted positions at which each latent was active.
    """

    def __init__(self, encode: Callable, decode: Callable, d_sae: int, device: torch.device | str):
        """`encode(x) -> f` and `decode(f, x) -> x_hat` on rows, as in `SAE`."""
        self._encode, self._decode, self._d_sae = encode, decode, d_sae
        self.fired = torch.zeros(d_sae, dtype=torch.int64, device=device)

    def __call__(
        self, x: Float[Tensor, "batch seq d_in"], keep: Bool[Tensor, "batch seq"]
    ) -> tuple[Float[Tensor, "batch seq d_out"], Int[Tensor, "batch seq"]]:
        """Reconstructs every position; counts only those in `keep`.

        Returns:
            The reconstruction and ‖f‖₀ of every position.
        """
        rows, counted = x.flatten(0, 1), keep.flatten()
        size = max(1, MAX_FEATURE_VALUES // self._d_sae)
        parts = [
            self._rows(*part) for part in zip(rows.split(size), counted.split(size), strict=True)
        ]
        x_hat, l0 = (torch.cat(part) for part in zip(*parts, strict=True))
        return x_hat.unflatten(0, keep.shape), l0.unflatten(0, keep.shape)

    def _rows(self, x: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
        """One part of the rows."""
        f = self._encode(x)
        active = f > 0
        self.fired += (active & counted[:, None]).sum(0)
        return self._decode(f, x), active.sum(1)


def squared_distance(
    a: Float[Tensor, "*rows d"], b: Float[Tensor, "*#rows d"]
) -> Float[Tensor, "*rows"]:
    """‖a − b‖² over the last dimension, float64."""
    return (a.double() - b.double()).square().sum(-1)


def json_list(values: Float[Tensor, " n"]) -> list[float | None]:
    """Seven significant digits each; None for NaN, which JSON does not have."""
    return [float(f"{v:.7g}") if math.isfinite(v) else None for v in values.tolist()]


def firing_summary(fired: Int[Tensor, " d_sae"], n_tokens: int) -> dict[str, Any]:
    """What is reported of firing counts, as JSON values.

    Frequencies are shares of the `n_tokens` counted tokens. A latent that never fired is dead
    *here*: its frequency may be anything well below 1/n_tokens, so it is in no bin.
    """
    counts = fired.cpu().numpy()
    alive = counts[counts > 0]
    logs = np.log10(alive / n_tokens)
    histogram, _ = np.histogram(np.maximum(logs, HISTOGRAM_EDGES[0]), bins=HISTOGRAM_EDGES)
    quantiles = {f"{q:.2f}": _quantile(alive / n_tokens, q) for q in (0.05, 0.25, 0.5, 0.75, 0.95)}
    return {
        "n_tokens": n_tokens,
        "n_dead": int((counts == 0).sum()),
        "n_above_10_percent": int((counts > 0.1 * n_tokens).sum()),
        "quantiles_of_alive": quantiles,
        "log10_edges": HISTOGRAM_EDGES.tolist(),
        "histogram": histogram.tolist(),
    }


def _quantile(values: np.ndarray, q: float) -> float | None:
    """None for no values."""
    return float(np.quantile(values, q)) if len(values) else None
