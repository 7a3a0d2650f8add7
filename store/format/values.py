"""Values between tensors and arrays: rounding, quantising, finding NaN and Inf.

Owns the numerics of storage; `sums` adds values up. In names, `bits` are rows as collected
(bfloat16 as uint16 [n, d], or float32 [n, d]); `stored` are rows as in the array, which for `int8`
are integers [n, d] to be multiplied by a float32 scale [d].
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
    """Sums over a bucket's rows as they are stored: after rounding, for int8 after scaling."""

    total: Float64[np.ndarray, "d"]
    """Σx per channel."""
    squares: float
    """Σ‖x‖²."""
    scale: Float32[np.ndarray, "d"] | None = None
    """int8 only: the value of one step per channel."""
    saturated: int = 0
    """int8 only: number of values that were beyond ±127 steps and were cut there."""


def to_bits(tensor: torch.Tensor, dtype: str) -> np.ndarray:
    """A floating tensor as uint16 bits of bfloat16 or as float32, on the CPU, rounded to nearest
    even."""
    tensor = tensor.detach()
    if dtype == "bfloat16":
        return tensor.to("cpu", torch.bfloat16).contiguous().view(torch.int16).numpy().view("<u2")
    return tensor.to("cpu", torch.float32).contiguous().numpy()


def put_values(out: np.ndarray, stored: np.ndarray, dtype: str, scale: np.ndarray | None) -> None:
    """Writes the values of stored rows [n, d] into `out` [n, d], float32 or bfloat16 (rounded to
    nearest even): x = stored, or stored · scale for int8."""
    if scale is None:
        np.copyto(out, stored.view(_VIEWS[dtype]), casting="unsafe")
    elif out.dtype == np.float32:
        np.multiply(stored, scale, out=out)
    else:
        np.copyto(out, stored * scale, casting="unsafe")


def nonfinite_rows(bits: np.ndarray, dtype: str) -> np.ndarray:
    """Indices (int64) of the rows with a NaN or Inf."""
    # Read as signed integers, the bits of +Inf and positive NaNs are above those of all other
    # values; read as unsigned ones, so are those of -Inf and negative NaNs. Two maxima cost a
    # twentieth of isfinite on bfloat16.
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
        """Takes bfloat16 rows into account."""
        # Without the sign bit, larger bits are larger values.
        found = (bits & np.uint16(0x7FFF)).max(axis=0).view(_VIEWS["bfloat16"]).astype(np.float32)
        np.maximum(self._largest, found, out=self._largest)

    def scale(self) -> Float32[np.ndarray, "d"]:
        """The value of one int8 step: max |x| / 127 per channel; 1 where that is 0 in float32."""
        step = self._largest / np.float32(INT8_MAX)
        return np.where(step > 0, step, np.float32(1))


def quantised(bits: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, int]:
    """bfloat16 rows as int8 steps, and how many values were cut at ±127.

    step = clip(round(x / scale), -127, 127), rounded to nearest even.
    """
    steps = np.rint(bits.view(_VIEWS["bfloat16"]).astype(np.float32) / scale)
    beyond = int((np.abs(steps) > INT8_MAX).sum())
    return np.clip(steps, -INT8_MAX, INT8_MAX).astype(np.int8), beyond
