"""The numbers of one update as pure functions of its index: learning rate and λ.

Step s counts from 0; nothing here remembers anything, which is what makes resuming exact.
"""

import math

from ..settings import TrainSettings


def learning_rate(settings: TrainSettings, step: int) -> float:
    """lr of update `step`: half-cosine rise from `lr_warmup_start`·lr, plateau, optional linear
    fall to 0.

    warm-up: lr · (s0 + (1−s0)·(1 − cos(π t))/2), t = step / lr_warmup_steps (report §3.2: "cosine
    warm-up from 0.1×").
    """
    factor = 1.0
    if step < settings.lr_warmup_steps:
        rise = (1 - math.cos(math.pi * step / settings.lr_warmup_steps)) / 2
        factor = settings.lr_warmup_start + (1 - settings.lr_warmup_start) * rise
    if settings.decay_steps:
        # The last update still moves: it gets 1/decay_steps of the rate, never 0.
        factor *= min(1.0, (settings.steps - step) / settings.decay_steps)
    return settings.lr * factor


def sparsity_share(settings: TrainSettings, step: int) -> float:
    """Share of λ in force at update `step`: linear from 0 to 1 over `sparsity_warmup_steps` (report
    §3.2).
    """
    if settings.sparsity_warmup_steps == 0:
        return 1.0
    return min(1.0, step / settings.sparsity_warmup_steps)
