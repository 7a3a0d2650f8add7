"""An even sample of the rows with their firings, and the latents that fire together in it.

Owns the choice of the rows: those whose key is below a limit. The limit is halved until the sample
of all parts together is within its bounds, so the cut into parts does not change the sample.
"""

from typing import NamedTuple

import numpy as np
import torch

from .....train.kernels.cpu.threads import run_blocks
from .kernels import jit

MOST_ENTRIES, MOST_PAIRS = 2**22, 2**32
"""Most firings in the sample (16 bytes each in memory), and most pairs of firings in one row, added
up over rows (they take time)."""

_KEYS = 2**63


class FiringSample:
    """Rows as lists of firings, row after row.

    Attributes:
        limit: rows with a key below it are in the sample.
        key: key of each row, int64 [rows].
        n: number of firings of each row, int64 [rows].
        latent: latent of each firing, int32 [firings].
        value: its feature activation, float32 [firings].
    """

    def __init__(self, limit: int):
        self.limit = limit
        self.key, self.n = np.empty(0, np.int64), np.empty(0, np.int64)
        self.latent, self.value = np.empty(0, np.int32), np.empty(0, np.float32)
        self._waiting: list[tuple[np.ndarray, ...]] = []
        self._n_waiting = np.zeros(2, np.int64)

    @classmethod
    def of(cls, share: float) -> "FiringSample":
        """An empty sample that will take about this share of the rows, 0 to 1."""
        return cls(_KEYS if share >= 1 else int(share * _KEYS))

    def add(
        self, key: np.ndarray, start: np.ndarray, latent: np.ndarray, value: np.ndarray
    ) -> None:
        """Adds the rows of a block whose keys are below the limit.

        Args:
            key: int64 [rows], not negative.
            start: index of each row's first firing, int64 [rows + 1].
            latent: latent of each firing, int32 [firings].
            value: its feature activation, float32 [firings].
        """
        mine, n = key <= self.limit - 1, np.diff(start)
        if not mine.any():
            return
        firings = np.repeat(mine, n)
        self._waiting.append((key[mine], n[mine], latent[firings], value[firings]))
        self._n_waiting += _size(n[mine])
        if self._is_over(self._n_waiting + _size(self.n)):
            self._shrink()

    def merge(self, other: "FiringSample") -> None:
        """Adds another part's rows after its own."""
        other.settle()
        self._waiting.append((other.key, other.n, other.latent, other.value))
        self._n_waiting += _size(other.n)
        self.limit = min(self.limit, other.limit)
        self._shrink()

    def settle(self) -> None:
        """Joins the added blocks into one array each."""
        if not self._waiting:
            return
        parts = [(self.key, self.n, self.latent, self.value), *self._waiting]
        self._waiting, self._n_waiting = [], np.zeros(2, np.int64)
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        self.key, self.n, self.latent, self.value = columns

    def _shrink(self) -> None:
        """Halves the limit until the bounds hold."""
        self.settle()
        mine = self.key <= self.limit - 1
        while self._is_over(_size(self.n[mine])):
            self.limit //= 2
            mine = self.key <= self.limit - 1
        if not mine.all():
            firings = np.repeat(mine, self.n)
            self.key, self.n = self.key[mine], self.n[mine]
            self.latent, self.value = self.latent[firings], self.value[firings]

    @staticmethod
    def _is_over(size: np.ndarray) -> bool:
        """Whether these numbers of firings and of pairs are over the bounds."""
        return bool(size[0] > MOST_ENTRIES or size[1] > MOST_PAIRS)


def _size(n: np.ndarray) -> np.ndarray:
    """(firings, pairs of firings) of rows with n[r] firings each: int64 [2]."""
    return np.array([n.sum(), (n * n).sum()], dtype=np.int64)


class FiringPartners(NamedTuple):
    """Partners by falling jaccard, then by number; filled up with -1."""

    partner: np.ndarray  # int64 [d_sae, most]
    jaccard: np.ndarray  # float64 [d_sae, most]
    correlation: np.ndarray  # float64 [d_sae, most]


def together(sample: FiringSample, d_sae: int, most: int) -> FiringPartners:
    """For every latent, the `most` latents that fire most often together with it in the sample.

    jaccard = n_ij / (n_i + n_j − n_ij), where n counts rows in which the latents fire. correlation
    is Pearson's r of both activations over all rows of the sample, with 0 where a latent does not
    fire. Sums are in float64.
    """
    sample.settle()
    n_rows, n = len(sample.n), len(sample.latent)
    start = np.concatenate([[0], np.cumsum(sample.n)])
    first = np.concatenate([[0], np.cumsum(np.bincount(sample.latent, minlength=d_sae))])
    row, order, (total, squares) = (
        np.empty(n, np.int32),
        np.empty(n, np.int32),
        np.zeros((2, d_sae)),
    )
    _list_by_latent(
        start, sample.latent, sample.value, first[:-1].copy(), row, order, total, squares
    )
    spread = np.sqrt(np.maximum(n_rows * squares - total**2, 0))
    found = FiringPartners(
        np.full((d_sae, most), -1, np.int64), np.zeros((d_sae, most)), np.zeros((d_sae, most))
    )
    arrays = (start, row, sample.latent, sample.value, first, order, total, spread)
    # Blocks share no data, so the number of threads changes no result.
    run_blocks(_partners, max(1, min(64, d_sae // 16)), *arrays, n_rows, found)
    return found


@jit
def _list_by_latent(start, latent, value, next_, row, order, total, squares):
    """Row and place of every firing, by latent, and Σ f and Σ f² of every latent."""
    for r in range(start.size - 1):
        for e in range(start[r], start[r + 1]):
            j, f = latent[e], np.float64(value[e])
            row[e], order[next_[j]] = r, e
            next_[j] += 1
            total[j] += f
            squares[j] += f * f


@jit
def _partners(
    block, n_blocks, start, row, latent, value, first, order, total, spread, n_rows, found
):
    """The partners of a block of latents."""
    d_sae = total.size
    count, dot = np.zeros(d_sae, np.int32), np.zeros(d_sae, np.float64)
    touched = np.empty(d_sae, np.int32)
    for i in range(block * d_sae // n_blocks, (block + 1) * d_sae // n_blocks):
        n = 0
        for k in range(first[i], first[i + 1]):
            r, f = row[order[k]], np.float64(value[order[k]])
            for e in range(start[r], start[r + 1]):
                j = latent[e]
                if count[j] == 0:
                    touched[n] = j
                    n += 1
                count[j] += 1
                dot[j] += f * np.float64(value[e])
        for k in range(n):
            j = touched[k]
            if j != i:
                either = (first[i + 1] - first[i]) + (first[j + 1] - first[j]) - count[j]
                _offer(found, i, j, count[j] / either)
        for k in range(found.partner.shape[1]):
            j = found.partner[i, k]
            if j >= 0 and spread[i] > 0 and spread[j] > 0:
                r = (n_rows * dot[j] - total[i] * total[j]) / (spread[i] * spread[j])
                found.correlation[i, k] = min(max(r, -1.0), 1.0)
        for k in range(n):
            count[touched[k]], dot[touched[k]] = 0, 0.0


@jit
def _offer(found, i, j, jaccard):
    """Puts j among i's partners if its jaccard is among the largest."""
    at = found.partner.shape[1]
    while at > 0 and (
        found.partner[i, at - 1] < 0
        or jaccard > found.jaccard[i, at - 1]
        or (jaccard == found.jaccard[i, at - 1] and j < found.partner[i, at - 1])
    ):
        at -= 1
    if at == found.partner.shape[1]:
        return
    for k in range(found.partner.shape[1] - 1, at, -1):
        found.partner[i, k] = found.partner[i, k - 1]
        found.jaccard[i, k] = found.jaccard[i, k - 1]
    found.partner[i, at], found.jaccard[i, at] = j, jaccard


def as_tensors(sample: FiringSample) -> dict[str, torch.Tensor]:
    """The sample as tensors of a part's file."""
    sample.settle()
    arrays = {"key": sample.key, "n": sample.n, "latent": sample.latent, "value": sample.value}
    arrays["limit"] = np.array([sample.limit - 1], np.int64)
    return {f"sample.{name}": torch.from_numpy(array) for name, array in arrays.items()}


def from_tensors(tensors: dict[str, torch.Tensor]) -> FiringSample:
    """The sample that a part's file holds."""
    arrays = {name: tensors[f"sample.{name}"].numpy() for name in ("key", "n", "latent", "value")}
    sample = FiringSample(int(tensors["sample.limit"][0]) + 1)
    sample.key, sample.n = arrays["key"], arrays["n"]
    sample.latent, sample.value = arrays["latent"], arrays["value"]
    return sample
