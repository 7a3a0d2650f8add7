"""One rule for the scale of numbers: sums in float64, and differences judged against what they are
differences of.

Owns the variance that follows from sums, and when rows count as constant. Rows may be of any size
that float32 and bfloat16 hold: their squares (1e-90 to 1e77) fit float64, not float32.
"""

from typing import Any

import numpy as np
import torch

CONSTANT = 1e-10
"""Rows vary if their variance is over this share of their mean square.

Sums of up to 10^9 rows in float64 are exact to about 10^-12 of the mean square, so a variance that
passes has two right digits at least. float32 values that differ in their last bit only, everywhere,
are at 10^-15, bfloat16 ones at 10^-5.
"""


def total_variance(sum_x: Any, sum_squares: float, n: int) -> float:
    """E‖x − E x‖² = (Σ‖x‖² − ‖Σx‖²/n)/n from a set's sums, summed over the channels.

    Args:
        sum_x: Σx [d], float64 (array or tensor).
        sum_squares: Σ‖x‖².
        n: number of rows, at least 1.

    Returns:
        float64, never negative; exactly 0 for rows that `is_constant` calls constant, where the
        difference is rounding noise.
    """
    total = np.asarray(sum_x.cpu() if isinstance(sum_x, torch.Tensor) else sum_x, np.float64)
    mean, mean_square = total / n, sum_squares / n
    variance = mean_square - float(mean @ mean)
    return 0.0 if is_constant(variance, mean_square) else variance


def is_constant(variance: float, mean_square: float) -> bool:
    """Whether E‖x − E x‖² is nothing beside E‖x‖², both float64: 0, or no more than the rounding of
    sums. True also for rows that are all 0. NaN is not constant: what is not finite is another
    error."""
    return variance <= CONSTANT * mean_square
