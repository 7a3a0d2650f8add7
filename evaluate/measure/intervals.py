"""95% intervals of means over text, over sequences of the same documents.

Owns the sums of each sequence and the delta method on ratios of them. The caller decides what is
summed.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor

MIN_SEQUENCES = 16
"""Fewer sequences give no interval: their spread says little about the spread of all."""
NORMAL = 1.959963984540054
"""The 97.5% quantile of the normal distribution."""

Interval = list[float]
"""[low, high], as in the JSON."""


@dataclass(frozen=True)
class Estimate:
    """A ratio of sums over sequences, with its standard error."""

    value: float
    """NaN where the denominator is 0."""
    stderr: float | None
    """None for a single sequence."""
    n_sequences: int

    @property
    def interval(self) -> Interval | None:
        """value ± t·stderr with the 97.5% quantile of Student's t for S − 1 degrees of freedom.

        None with fewer than `MIN_SEQUENCES` sequences, and where the ratio is not finite.
        """
        if self.n_sequences < MIN_SEQUENCES or self.stderr is None:
            return None
        reach = t_quantile(self.n_sequences - 1) * self.stderr
        low, high = self.value - reach, self.value + reach
        return [low, high] if math.isfinite(low) and math.isfinite(high) else None


class SequenceSums:
    """Sums over the counted positions of each sequence, float64.

    Tokens of one sequence are not independent of each other, so one sequence is one draw. An
    interval needs only its sums: a few numbers a sequence. Documents are held out whole, so
    sequences are draws from the held-out documents. On other documents a mean is less certain than
    its interval says (docs/metrics.md has figures).
    """

    def __init__(self) -> None:
        # Python's numbers, not tensors: small tensors that live as long as the run would lie
        # between the passes' large ones and keep freed memory from being used again.
        self._sums: dict[str, list[float]] = {}

    def add(self, keep: Bool[Tensor, "batch seq"], **values: Num[Tensor, "batch seq"]) -> None:
        """Adds a batch; values where `keep` is False are ignored, even NaN.

        The number of counted positions is summed for each value too, as `n_<name>`.
        """
        count = keep.sum(1).double().tolist()
        for name, value in values.items():
            kept = torch.where(keep, value.double(), 0.0).sum(1).tolist()
            self._sums.setdefault(name, []).extend(kept)
            self._sums.setdefault(f"n_{name}", []).extend(count)

    def __getitem__(self, name: str) -> Float[Tensor, " sequences"]:
        """Σ_t of a value for each sequence, in the order they were added."""
        return torch.tensor(self._sums[name], dtype=torch.float64)

    def mean(self, name: str) -> Estimate:
        """The mean of a value over all counted positions."""
        return ratio(self[name], self[f"n_{name}"])


def ratio(
    a: Float[Tensor, " sequences"], b: Float[Tensor, " sequences"], offset: float = 0.0
) -> Estimate:
    """R = offset + Σ a_s / Σ b_s with the delta method's standard error over sequences.

    To first order a sequence moves a/b by (a_s − R·b_s) / Σ b, so

        stderr = sqrt(S/(S−1) · Σ_s (a_s − R·b_s)²) / abs(Σ b_s)

    Sequences with a_s = b_s = 0 have no counted position; they are left out, also of S.
    """
    said = (a != 0) | (b != 0)
    a, b = a[said], b[said]
    n, total = len(a), b.sum()
    if not total:
        return Estimate(math.nan, None, n)
    value = a.sum() / total
    if n == 1:
        return Estimate(offset + float(value), None, n)
    spread = (a - value * b).square().sum() * n / (n - 1)
    return Estimate(offset + float(value), float(spread.sqrt() / total.abs()), n)


def t_quantile(freedom: int) -> float:
    """The 97.5% quantile of Student's t, by its expansion in 1/freedom (Abramowitz and Stegun,
    26.7.5): off by about 1e-6 at 15 degrees of freedom, less beyond.
    """
    z = NORMAL
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom ** (i + 1) for i, term in enumerate(terms))
