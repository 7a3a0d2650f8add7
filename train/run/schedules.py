"""The settings of one update as pure functions of its number: learning rate, λ and the like.

Steps count from 0. Nothing here keeps state, so that a continued run is exact.
"""

import math

from torch import Tensor

from ..kernels import StepSettings
from ..settings import TrainSettings


def learning_rate(settings: TrainSettings, step: int) -> float:
    """lr of update `step`: half-cosine rise from `lr_warmup_start`·lr, plateau, optional linear
    fall to 0.

    The warm-up is the Gemma Scope report's, section 3.2 ("cosine warm-up from 0.1×").
    """
    factor = 1.0
    if step < settings.lr_warmup_steps:
        # s0 + (1 − s0)·(1 − cos(π·step/lr_warmup_steps))/2
        rise = (1 - math.cos(math.pi * step / settings.lr_warmup_steps)) / 2
        factor = settings.lr_warmup_start + (1 - settings.lr_warmup_start) * rise
    if settings.decay_steps:
        # The last update still moves: it gets 1/decay_steps of the rate, never 0.
        factor *= min(1.0, (settings.steps - step) / settings.decay_steps)
    return settings.lr * factor


def sparsity_share(settings: TrainSettings, step: int) -> float:
    """Share of λ at update `step`: linear from 0 to 1 over `sparsity_warmup_steps` (Gemma Scope
    report, section 3.2).
    """
    if settings.sparsity_warmup_steps == 0:
        return 1.0
    return min(1.0, step / settings.sparsity_warmup_steps)


def step_settings(
    settings: TrainSettings, step: int, sparsity: float, firing: Tensor
) -> StepSettings:
    """The kernel's settings for update `step`.

    Args:
        settings: the run's.
        step: counts from 0.
        sparsity: λ now; steering may bring it below 0.
        firing: float [owned latents], the share of rows in which each fires.
    """
    return StepSettings(
        lr=learning_rate(settings, step),
        sparsity=sparsity,
        bandwidth=settings.bandwidth,
        beta2=settings.beta2,
        eps=settings.adam_eps,
        theta_form=settings.theta_form,
        pre_bias=settings.target_site is None,
        latent_weight=_latent_weight(settings, sparsity, firing),
        penalty=settings.penalty,
        target_l0=settings.target_l0,
        quadratic_coefficient=settings.quadratic_coefficient,
        encoder=settings.encoder,
    )


def _latent_weight(settings: TrainSettings, sparsity: float, firing: Tensor) -> Tensor | None:
    """Extra price, in units of λ, of latents that fire on more than `frequency_limit` of the rows;
    None without `frequency_penalty`."""
    if settings.frequency_penalty == 0:
        return None
    often = firing > settings.frequency_limit
    # With λ's sign: λ times the weight is a price also if λ is below 0.
    return math.copysign(settings.frequency_penalty, sparsity) * often.float()
