"""A step's report (losses, L0, firing counts) and the slopes of its penalty, on any device.

Computes them from each row's squared error and L0, which the backends find.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .settings import StepSettings
from .shards import Share


@dataclass
class StepResult:
    """What a step reports; all of it before the update.

    Attributes:
        loss: mse + penalty.
        mse: mean over rows of ‖target − x̂‖² (summed over dimensions).
        penalty: mean over rows of the L0 penalty.
        l0: mean over rows of ‖f‖₀.
        fired: int64 [owned latents], in how many rows each was active.
        finite: whether the loss is finite. If not, the state was left untouched.
        path: what computed it, as backend/path: "reference/dense", "cpu/sparse", "cpu/screened".
    """

    loss: float
    mse: float
    penalty: float
    l0: float
    fired: Tensor
    finite: bool
    path: str = ""


def not_finite(last_update: Tensor, path: str) -> StepResult:
    """The report of a step whose input holds NaN or infinity; `fired` has last_update's shape."""
    nan = float("nan")
    return StepResult(nan, nan, nan, nan, torch.zeros_like(last_update), False, path)


class Slopes(NamedTuple):
    """Growth of the mean penalty with one more active latent: row[b] + latent[i], float32.

    Attributes:
        row: [batch], λ/batch · 1 (linear) or λ/batch · 2c(‖f‖₀ − L0*) (quadratic).
        latent: [owned latents], λ/batch · latent_weight.
    """

    row: Tensor
    latent: Tensor


def report(
    row_loss: Tensor,
    row_l0: Tensor,
    fired: Tensor,
    settings: StepSettings,
    share: Share,
    path: str,
) -> tuple[StepResult, Slopes]:
    """The step's report and the slopes of its penalty; sums over rows are made in float64.

    Args:
        row_loss: float32 [batch], ‖target − x̂‖².
        row_l0: [batch], ‖f‖₀, over all latents.
        fired: [owned], rows in which each latent was active.
        settings: the step's.
        share: the latents owned.
        path: for the report.
    """
    batch, l0 = row_l0.shape[0], row_l0.double()
    per_row = settings.sparsity / batch
    if settings.penalty == "quadratic":
        assert settings.target_l0 is not None
        away = l0 - settings.target_l0
        rows, slope = settings.coefficient * away.square(), 2 * settings.coefficient * away
    else:
        rows, slope = l0, torch.ones_like(l0)
    total, latent_slope = rows.sum(), torch.zeros_like(fired, dtype=torch.float32)
    if settings.latent_weight is not None:
        weighted = settings.latent_weight.double() * fired
        total = total + share.add(lambda shard: weighted[share.latents(shard)].sum())
        latent_slope = settings.latent_weight * per_row
    penalty = total * per_row
    mse_value, penalty_value, l0_value = torch.stack(
        [row_loss.double().mean(), penalty, l0.mean()]
    ).tolist()
    loss = mse_value + penalty_value
    result = StepResult(
        loss=loss,
        mse=mse_value,
        penalty=penalty_value,
        l0=l0_value,
        fired=fired.to(torch.int64),
        finite=loss - loss == 0.0,
        path=path,
    )
    return result, Slopes((slope * per_row).float(), latent_slope)
