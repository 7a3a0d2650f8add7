"""The settings that suit a run's length: measured ones for short runs, the report's for long ones.

Owns the values of `recipe = "auto"`: pure functions of the number of updates, the batch and the
site's width. `settings` lets a setting that is given by hand win.

The Gemma Scope report's lr of 7e-5 and θ = ε = 0.001 suit hundreds of thousands of updates. A short
run has to move faster and to start nearer to its end: a larger lr that falls to 0, a shorter memory
of second moments, and θ and ε of the size of an untrained encoder's z, which is 1/√d.
"""

import math
from itertools import pairwise

SHORT_UPDATES, REPORT_UPDATES = 25_000, 250_000
"""A run of at most SHORT_UPDATES is short; from REPORT_UPDATES on the report's values hold."""

MEASURED_BATCH, MEASURED_WIDTH = 1_024, 128
"""Rows of an update, and channels of a row, in the measurements behind `LR`."""

Knots = tuple[tuple[int, float], ...]
"""(updates, value): the value's logarithm is linear in log(updates) between, constant beyond."""

LR: Knots = (
    (300, 1e-2),
    (1_500, 6e-3),
    (6_000, 4e-3),
    (SHORT_UPDATES, 1e-3),
    (REPORT_UPDATES, 7e-5),
)
"""lr. Up to 6,000 updates the best of those tried at the demo's site (docs/quality.md), at 250,000
the report's; the value at 25,000 is between the two and was not measured."""

FORGETTING: Knots = ((300, 0.03), (1_500, 0.015), (SHORT_UPDATES, 0.01), (REPORT_UPDATES, 0.001))
"""1 − β2: second moments remember the last 33 to 1,000 updates."""

DECAY_SHARE = 0.2
THETA, BANDWIDTH = 1.7, 1.13
"""θ at the start and ε, times 1/√d."""
TRANSCODER_THETA, TRANSCODER_BANDWIDTH = 0.11, 0.57
"""The same for a transcoder: its encoder is not tied to the decoder, so its first features are
noise, and with a high θ they would never fire again."""
REPORT_THETA, REPORT_BANDWIDTH = 1e-3, 1e-3


def of_length(updates: int) -> dict[str, float | int]:
    """The settings that follow from a run's length alone.

    Args:
        updates: of the run, at least 1.

    Returns:
        lr_warmup_steps, lr_decay_share, beta2, sparsity_warmup_steps.
    """
    decay = DECAY_SHARE * shortness(updates)
    return {
        "lr_warmup_steps": min(1_000, updates // 15),
        "lr_decay_share": decay if round(decay * updates) else 0.0,
        "beta2": 1 - _at(FORGETTING, updates),
        "sparsity_warmup_steps": min(10_000, updates // 10),
    }


def of_site(updates: int, batch: int, d: int, transcoder: bool = False) -> dict[str, float]:
    """The settings that also depend on the batch and on the width of the site that is read.

    A short run's lr is the measured one times √(128/d) and √(batch/1,024), each at most 1. Adam
    moves every number by about lr, and so a latent's direction, whose norm is 1, by lr·√d; and a
    smaller batch has a noisier mean. No factor is above 1, since a larger lr left half of the
    latents dead. lr is never below the report's.

    Args:
        updates: of the run, at least 1.
        batch: rows of an update.
        d: width of the site.
        transcoder: whether the SAE is a transcoder.

    Returns:
        lr, and theta_start and bandwidth in units where E‖x‖² = 1.
    """
    short, size = shortness(updates), 1 / math.sqrt(d)
    theta = TRANSCODER_THETA if transcoder else THETA
    bandwidth = TRANSCODER_BANDWIDTH if transcoder else BANDWIDTH
    batches, widths = min(1.0, batch / MEASURED_BATCH), min(1.0, MEASURED_WIDTH / d)
    size_of_case = math.sqrt(batches * widths)
    return {
        "lr": max(LR[-1][1], _at(LR, updates) * size_of_case**short),
        "theta_start": _between(theta * size, REPORT_THETA, short),
        "bandwidth": _between(bandwidth * size, REPORT_BANDWIDTH, short),
    }


def shortness(updates: int) -> float:
    """1 for a short run, 0 from the report's length on; between, linear in log(updates)."""
    share = math.log(REPORT_UPDATES / updates) / math.log(REPORT_UPDATES / SHORT_UPDATES)
    return max(0.0, min(1.0, share))


def _between(short: float, report: float, shortness: float) -> float:
    """A setting of a run between both lengths; exactly the ends' values at the ends."""
    if shortness in (0.0, 1.0):
        return short if shortness else report
    return short**shortness * report ** (1 - shortness)


def _at(knots: Knots, updates: int) -> float:
    """The value for a run of so many updates."""
    if updates <= knots[0][0]:
        return knots[0][1]
    for (first, before), (last, after) in pairwise(knots):
        if updates < last:
            return _between(before, after, math.log(last / updates) / math.log(last / first))
    return knots[-1][1]
