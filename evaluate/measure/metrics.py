"""Sums that become metrics: means by position, activation means, squared errors, firing counts.

Owns their accumulation, batch by batch and in float64, over the positions that count. The caller
decides which positions count. Losses are in `lm_loss`, JSON values in `summaries`.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

MAX_FEATURE_VALUES = 2**25
"""Feature activations held at once (128 MiB in float32): rows are encoded in parts of this many
values.
"""
MAX_DOUBLES = 2**22
"""Values compared at once in float64 (32 MiB); a batch of a wide site has many more."""


class PositionMeans:
    """Float64 means of named per-token values, overall and by position in the sequence."""

    def __init__(self, context: int):
        self.count = torch.zeros(context, dtype=torch.float64)
        self._sums: dict[str, Tensor] = {}
        self._squares: dict[str, Tensor] = {}

    def add(self, keep: Bool[Tensor, "batch seq"], **values: Num[Tensor, "batch seq"]) -> None:
        """Adds a batch; values where `keep` is False are ignored, even NaN."""
        self.count += keep.sum(0).cpu()
        for name, value in values.items():
            kept = torch.where(keep, value.double(), 0.0)
            for sums, addend in ((self._sums, kept), (self._squares, kept.square())):
                # In place: new small tensors would fragment the memory that the passes reuse.
                sums.setdefault(name, torch.zeros_like(self.count)).add_(addend.sum(0).cpu())

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

    def stderr_by_position(self, name: str) -> Float[Tensor, " seq"]:
        """Standard error of each position's mean; NaN where fewer than two were counted.

        A position has one token of each sequence, so it holds for other sequences of the same
        documents.
        """
        mean = self.by_position(name)
        variance = (self._squares[name] / self.count - mean.square()).clamp(min=0)
        # A single token has no spread: NaN, where 0 / 0 would depend on the clamp.
        return torch.where(self.count > 1, variance / (self.count - 1), torch.nan).sqrt()


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
        """Reconstruction and ‖f‖₀ of some rows [n, d_in]."""
        f = self._encode(x)
        active = f > 0
        self.fired += (active & counted[:, None]).sum(0)
        return self._decode(f, x), active.sum(1)


class VectorComparison:
    """Compares activations x with reconstructions x̂: squared errors by row and by dimension,
    cosines and lengths.

    Attributes:
        squares: float64 [d], Σ (x − x̂)² of each dimension over the counted positions.
    """

    def __init__(self, d: int):
        self.squares = torch.zeros(d, dtype=torch.float64)

    def __call__(
        self,
        x: Float[Tensor, "batch seq d"],
        x_hat: Float[Tensor, "batch seq d"],
        keep: Bool[Tensor, "batch seq"],
    ) -> dict[str, Float[Tensor, "batch seq"]]:
        """Compares every position; only those in `keep` are added to `squares`.

        Returns:
            Float64 by position: `error` = ‖x − x̂‖², `square` = ‖x‖², `cosine` of the angle between
            x and x̂, and `norm_ratio` = ‖x̂‖/‖x‖. The cosine is 0 where x or x̂ is 0, the ratio
            where x is 0.
        """
        size = max(1, MAX_DOUBLES // x.shape[-1])
        rows = (tensor.flatten(0, 1).split(size) for tensor in (x, x_hat))
        parts = [self._rows(*part) for part in zip(*rows, keep.flatten().split(size), strict=True)]
        names = ("error", "square", "cosine", "norm_ratio")
        values = (torch.cat(part).unflatten(0, keep.shape) for part in zip(*parts, strict=True))
        return dict(zip(names, values, strict=True))

    def _rows(self, x: Tensor, x_hat: Tensor, counted: Tensor) -> tuple[Tensor, ...]:
        """`error`, `square`, `cosine` and `norm_ratio` of some rows [n, d]."""
        x, x_hat = x.double(), x_hat.double()
        square, square_hat = x.square().sum(-1), x_hat.square().sum(-1)
        cosine = (x * x_hat).sum(-1) / (square * square_hat).sqrt()
        ratio = (square_hat / square).sqrt()
        errors = (x - x_hat).square()
        error = errors.sum(-1)
        self.squares += errors.masked_fill_(~counted[:, None], 0.0).sum(0).cpu()
        cosine = torch.where((square > 0) & (square_hat > 0), cosine, 0.0)
        return error, square, cosine, torch.where(square > 0, ratio, 0.0)


def squared_distance(
    a: Float[Tensor, "*rows d"], b: Float[Tensor, "*#rows d"]
) -> Float[Tensor, "*rows"]:
    """‖a − b‖² over the last dimension, float64."""
    return (a.double() - b.double()).square().sum(-1)
