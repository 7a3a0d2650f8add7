"""The variance of rows from their sums, and when rows count as constant.

Everything is float64: rows may be of any size that float32 and bfloat16 hold, and their squares
(1e-90 to 1e77) fit float64 but not float32.
"""

from typing import Any

import numpy as np
import torch

CONSTANT = 1e-10
"""Rows vary if their variance is above this share of their mean square.

float64 sums of up to 10^9 rows are exact to about 10^-12 of the mean square, so a variance above
the share has at least two correct digits. If all values differ only in their last bit, the variance
is 10^-15 of the mean square for float32 and 10^-5 for bfloat16.
"""


def total_variance(sum_x: Any, sum_squares: float, n: int) -> float:
    """E‖x − E x‖² = (Σ‖x‖² − ‖Σx‖²/n)/n from the sums of n rows, summed over the channels.

    Args:
        sum_x: Σx [d], float64 (array or tensor).
        sum_squares: Σ‖x‖².
        n: number of rows, at least 1.

    Returns:
        Never negative; exactly 0 for rows that `is_constant` calls constant, because there the
        difference is only rounding error.
    """
    total = np.asarray(sum_x.cpu() if isinstance(sum_x, torch.Tensor) else sum_x, np.float64)
    mean, mean_square = total / n, sum_squares / n
    variance = mean_square - float(mean @ mean)
    return 0.0 if is_constant(variance, mean_square) else variance


def is_constant(variance: float, mean_square: float) -> bool:
    """Whether E‖x − E x‖² is at most `CONSTANT` · E‖x‖², that is 0 up to rounding. True for rows
    that are all 0; false for NaN, which is reported elsewhere."""
    return variance <= CONSTANT * mean_square
