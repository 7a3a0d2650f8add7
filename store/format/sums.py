"""A bucket's sums Σx and Σ‖x‖², from which normaliser and mean follow without a pass over the data.

Owns the order of additions. The order is part of the format, so that every writer on every machine
gets the same sums to the last bit.
"""

import numpy as np

from ...caches import compiled
from .values import SiteSums

_BLOCK_ROWS = 32


class Summation:
    """float64 Σx and Σ‖x‖² over stored rows.

    Rows are added in the order of storage, in blocks that begin where a chunk begins. The order
    does not depend on how rows arrived, so the sums do not either.

    Args:
        width: d, values per row.
        dtype: the array's: bfloat16 (given as uint16 bits), float32 or int8.
        scale: int8 only: float32 [d], the value of one step per channel.
    """

    def __init__(self, width: int, dtype: str, scale: np.ndarray | None):
        self._dtype, self._scale = dtype, scale
        self._total, self._squares = np.zeros(width), np.zeros(width)

    def of(self, stored: np.ndarray) -> np.ndarray:
        """Σx and Σx² per channel of every block of a chunk: float64 [blocks, 2, d].

        This is most of the work; several threads may call it at once.
        """
        sums = np.zeros((-(-len(stored) // _BLOCK_ROWS), 2, stored.shape[1]))
        if self._dtype == "bfloat16":
            _sum_bfloat16(stored, sums)
        else:
            _sum_float32(stored if self._scale is None else stored * self._scale, sums)
        return sums

    def add(self, part: np.ndarray) -> None:
        """Adds the blocks of the next chunk; call it in the order of storage."""
        for total, squares in part:
            self._total += total
            self._squares += squares

    def result(self, saturated: int = 0) -> SiteSums:
        """The sums so far."""
        squares = float(np.add.reduce(self._squares))  # over channels, in numpy's fixed order
        return SiteSums(self._total, squares, self._scale, saturated)


@compiled("void(float32[:, ::1], float64[:, :, ::1])", nogil=True)
def _sum_float32(values: np.ndarray, sums: np.ndarray) -> None:
    """sums[block] += (Σx, Σx²) per channel, row after row; seven times as fast as numpy."""
    for row in range(values.shape[0]):
        block = sums[row // _BLOCK_ROWS]
        for channel in range(values.shape[1]):
            value = np.float64(values[row, channel])
            block[0, channel] += value
            block[1, channel] += value * value


@compiled("void(uint16[:, ::1], float64[:, :, ::1])", nogil=True)
def _sum_bfloat16(bits: np.ndarray, sums: np.ndarray) -> None:
    """The same for bfloat16 as bits; twice as fast as converting them to float32 first."""
    for row in range(bits.shape[0]):
        block = sums[row // _BLOCK_ROWS]
        for channel in range(bits.shape[1]):
            # bfloat16 is the upper half of a float32; the lower half is zero.
            widened = np.uint32(np.uint32(bits[row, channel]) << 16)
            value = np.float64(widened.view(np.float32))
            block[0, channel] += value
            block[1, channel] += value * value
