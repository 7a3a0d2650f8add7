"""The tally: everything that is counted of the latents over some rows, and the sum of two tallies.

Owns its arrays, their initial values, and their form in a part's file. `kernels` adds single
firings; `sample` keeps the rows for counting which latents fire together.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from . import kernels
from .kernels import BINS, EvenDraw, FiringSums, RowFacts, Top
from .sample import FiringSample, as_tensors, from_tensors


class RowFirings(NamedTuple):
    """The firings in a block of rows, row after row, by latent."""

    start: np.ndarray  # int64 [rows + 1]
    latent: np.ndarray  # int32 [firings]
    value: np.ndarray  # float32 [firings]


@dataclass(frozen=True)
class Size:
    """Sizes of a tally's arrays; equal for all parts of an index."""

    d_sae: int
    top: int
    """Strongest firings that are kept of a latent."""
    drawn: int
    """Firings that are drawn of a latent."""
    position_bins: int
    sampled: float
    """Share of the rows that are kept for firing together."""


class Tally:
    """Counts over some rows. Rows are added in order, then the tallies of later rows.

    Attributes:
        rows: number of rows added so far.
        position_rows: rows in each position bin, int64 [position bins].
        token_rows: rows of each token, int64 [largest token id + 1].
    """

    def __init__(self, size: Size):
        self.rows, self.position_rows = 0, np.zeros(size.position_bins, np.int64)
        self.token_rows = np.zeros(1, np.int64)
        d, top, drawn = (size.d_sae,), (size.d_sae, size.top), (size.d_sae, size.drawn)
        self.counts = FiringSums(
            fired=np.zeros(d, np.int64),
            total=np.zeros(d),
            squares=np.zeros(d),
            smallest=np.zeros(d, np.float32),
            largest=np.zeros(d, np.float32),
            exponent=np.zeros(d, np.int32),
            histogram=np.zeros((*d, BINS), np.int64),
            by_position=np.zeros((*d, size.position_bins), np.int64),
        )
        self.top = Top(
            n=np.zeros(d, np.int32),
            value=np.zeros(top, np.float32),
            place=np.zeros(top, np.int64),
            document=np.zeros(top, np.int64),
        )
        self.drawn = EvenDraw(
            n=np.zeros(d, np.int32),
            key=np.zeros(drawn, np.int64),
            place=np.zeros(drawn, np.int64),
            value=np.zeros(drawn, np.float32),
            token=np.zeros(drawn, np.int32),
        )
        self.sample = FiringSample.of(size.sampled)

    def add(self, rows: RowFacts, entries: RowFirings) -> None:
        """Adds a block of rows."""
        kernels.add_entries(*entries, rows, self.counts, self.top, self.drawn)
        self.sample.add((rows.key >> np.uint64(1)).astype(np.int64), *entries)
        self.rows += len(rows.place)
        self.position_rows += np.bincount(rows.bin, minlength=len(self.position_rows))
        self._add_tokens(np.bincount(rows.token))

    def merge(self, other: "Tally") -> None:
        """Adds the tally of the next rows; `other` must not be used afterwards."""
        kernels.add_counts(self.counts, other.counts)
        kernels.add_top(self.top, other.top)
        kernels.add_drawn(self.drawn, other.drawn)
        self.sample.merge(other.sample)
        self.rows += other.rows
        self.position_rows += other.position_rows
        self._add_tokens(other.token_rows)

    def _add_tokens(self, counts: np.ndarray) -> None:
        short, long = sorted((self.token_rows, counts), key=len)
        self.token_rows = long.copy()
        self.token_rows[: len(short)] += short

    def tensors(self) -> dict[str, torch.Tensor]:
        """The tally as tensors of a part's file."""
        groups = {"counts": self.counts, "top": self.top, "drawn": self.drawn}
        arrays = {
            f"{group}.{name}": array
            for group, arrays in groups.items()
            for name, array in arrays._asdict().items()
        }
        arrays |= {"rows": np.array([self.rows]), "position_rows": self.position_rows}
        arrays["token_rows"] = self.token_rows
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return tensors | as_tensors(self.sample)

    @classmethod
    def from_tensors(cls, size: Size, tensors: dict[str, torch.Tensor]) -> "Tally":
        """The tally that a part's file holds.

        Raises:
            ValueError: the file's arrays have other sizes.
        """
        tally = cls(size)
        for name, array in tally.tensors().items():
            grows = name.startswith("sample.") or name == "token_rows"
            found = tensors.get(name)
            if (
                found is None
                or found.dtype != array.dtype
                or (found.shape != array.shape and not grows)
            ):
                raise ValueError(f"{name} must be as this index has it")
        values = {name: tensor.numpy() for name, tensor in tensors.items()}
        tally.counts, tally.top, tally.drawn = (
            kind._make(values[f"{group}.{name}"] for name in kind._fields)
            for group, kind in (("counts", FiringSums), ("top", Top), ("drawn", EvenDraw))
        )
        tally.rows, tally.position_rows = int(values["rows"][0]), values["position_rows"]
        tally.token_rows, tally.sample = values["token_rows"], from_tensors(tensors)
        return tally
