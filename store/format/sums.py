"""A bucket's sums: what normaliser and mean are computed from, without a pass over the data.

Owns the order of additions, which is part of the format: a bucket's commit is the same whoever
writes it, on any machine.
"""

import numpy as np

from ...caches import compiled
from .values import SiteSums

_BLOCK_ROWS = 32


class Summation:
    """float64 Σx and Σ‖x‖² over stored rows.

    Rows are added in the order of storage, in blocks that start at a chunk's start, so no batching
    changes a bit.
    """

    def __init__(self, width: int, dtype: str, scale: np.ndarray | None):
        self._dtype, self._scale = dtype, scale
        self._total, self._squares = np.zeros(width), np.zeros(width)

    def of(self, stored: np.ndarray) -> np.ndarray:
        """Σx and Σx² of every block of a chunk [blocks, 2, width], which is most of the work; may
        be called from several threads."""
        sums = np.zeros((-(-len(stored) // _BLOCK_ROWS), 2, stored.shape[1]))
        if self._dtype == "bfloat16":
            _sum_bfloat16(stored, sums)
        else:
            _sum_float32(stored if self._scale is None else stored * self._scale, sums)
        return sums

    def add(self, part: np.ndarray) -> None:
        """Counts the next chunk's blocks."""
        for total, squares in part:
            self._total += total
            self._squares += squares

    def result(self, saturated: int = 0) -> SiteSums:
        """The sums so far."""
        squares = float(np.add.reduce(self._squares))
        return SiteSums(self._total, squares, self._scale, saturated)


@compiled("void(float32[:, ::1], float64[:, :, ::1])", nogil=True)
def _sum_float32(values: np.ndarray, sums: np.ndarray) -> None:
    """Adds Σx and Σx² per channel, row after row: seven times as fast as numpy's passes."""
    for row in range(values.shape[0]):
        block = sums[row // _BLOCK_ROWS]
        for channel in range(values.shape[1]):
            value = np.float64(values[row, channel])
            block[0, channel] += value
            block[1, channel] += value * value


@compiled("void(uint16[:, ::1], float64[:, :, ::1])", nogil=True)
def _sum_bfloat16(bits: np.ndarray, sums: np.ndarray) -> None:
    """The same of bfloat16 as bits; twice as fast as widening them beforehand."""
    for row in range(bits.shape[0]):
        block = sums[row // _BLOCK_ROWS]
        for channel in range(bits.shape[1]):
            widened = np.uint32(np.uint32(bits[row, channel]) << 16)
            value = np.float64(widened.view(np.float32))
            block[0, channel] += value
            block[1, channel] += value * value
