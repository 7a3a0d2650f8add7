"""Values between tensors and arrays: rounding, quantising, finding what is not finite.

Owns the numerics of storage; adding up is `sums`'. `bits` are rows as collected (bfloat16 as
uint16, or float32); `stored` are rows as they stand in the array, which for `int8` are integers to
be multiplied by a scale per channel.
"""

from dataclasses import dataclass

import ml_dtypes
import numpy as np
import torch
from jaxtyping import Float32, Float64

_VIEWS = {
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
    "int8": np.dtype(np.int8),
    "uint32": np.dtype(np.uint32),
}
_INFINITY = {"bfloat16": 0x7F80, "float32": 0x7F800000}
"""Bits of +Inf."""

INT8_MAX = 127


@dataclass(frozen=True)
class SiteSums:
    """Sums over a bucket's rows, as stored."""

    total: Float64[np.ndarray, "d"]
    """Σx per channel."""
    squares: float
    """Σ‖x‖²."""
    scale: Float32[np.ndarray, "d"] | None = None
    """int8 only: the value of one step per channel."""
    saturated: int = 0
    """int8 only: values that were beyond 127 steps and were cut there."""


def to_bits(tensor: torch.Tensor, dtype: str) -> np.ndarray:
    """A floating tensor as bits of bfloat16 or float32, on the CPU, rounded to nearest even."""
    tensor = tensor.detach()
    if dtype == "bfloat16":
        return tensor.to("cpu", torch.bfloat16).contiguous().view(torch.int16).numpy().view("<u2")
    return tensor.to("cpu", torch.float32).contiguous().numpy()


def put_values(out: np.ndarray, stored: np.ndarray, dtype: str, scale: np.ndarray | None) -> None:
    """Writes the values of stored rows into `out`, float32 or bfloat16 (rounded to nearest
    even)."""
    if scale is None:
        np.copyto(out, stored.view(_VIEWS[dtype]), casting="unsafe")
    elif out.dtype == np.float32:
        np.multiply(stored, scale, out=out)
    else:
        np.copyto(out, stored * scale, casting="unsafe")


def nonfinite_rows(bits: np.ndarray, dtype: str) -> np.ndarray:
    """Numbers of the rows with a NaN or Inf.

    As signed integers the positive ones lie above all else, as unsigned the negative ones do. Two
    maxima cost a twentieth of isfinite on bfloat16.
    """
    unsigned = bits if dtype == "bfloat16" else bits.view("<u4")
    signed = unsigned.view(f"<i{unsigned.itemsize}")
    infinity = _INFINITY[dtype]
    minus_infinity = infinity | 1 << (8 * unsigned.itemsize - 1)
    if not bits.size or (signed.max() < infinity and unsigned.max() < minus_infinity):
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero(((signed >= infinity) | (unsigned >= minus_infinity)).any(axis=1))


class Extremes:
    """Largest |x| per channel, for the scale of int8."""

    def __init__(self, width: int):
        self._largest = np.zeros(width, dtype=np.float32)

    def add(self, bits: np.ndarray) -> None:
        """Counts bfloat16 rows: without its sign bit, larger bits are larger values."""
        found = (bits & np.uint16(0x7FFF)).max(axis=0).view(_VIEWS["bfloat16"]).astype(np.float32)
        np.maximum(self._largest, found, out=self._largest)

    def scale(self) -> Float32[np.ndarray, "d"]:
        """The value of one step: the largest |x| is 127 of them; 1 for a channel that is always
        0, or so near to it that a step would be."""
        step = self._largest / np.float32(INT8_MAX)
        return np.where(step > 0, step, np.float32(1))


def quantised(bits: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, int]:
    """bfloat16 rows as int8 steps, to nearest even, and how many values were cut at ±127."""
    steps = np.rint(bits.view(_VIEWS["bfloat16"]).astype(np.float32) / scale)
    beyond = int((np.abs(steps) > INT8_MAX).sum())
    return np.clip(steps, -INT8_MAX, INT8_MAX).astype(np.int8), beyond
