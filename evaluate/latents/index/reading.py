"""Reading: a store's rows in order, and the latents that fire in them.

Owns the cut of rows into blocks. Only the store and the SAE's width decide it, because matrix
products of other shapes may round differently. The next rows are read while the last are encoded.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ....harvest.rows.documents import Documents
from ....store import ActivationStore
from ....train.kernels.cpu.threads import blocks_for, run_blocks
from ....train.sae.sae import SAE
from .tally import kernels
from .tally.kernels import RowFacts
from .tally.tally import RowFirings

_BLOCK_NUMBERS, _FEWEST_ROWS = 2**22, 64
_PIECE_BYTES = 2**22
_MOST_TOKENS = 2**24
LABELS = ("sequence", "position", "token")


@dataclass(frozen=True)
class LabelledRows:
    """Some rows of a site, with their labels."""

    x: Tensor
    """Activations, float32 [rows, d_in], on the CPU."""
    token: np.ndarray
    """Token id, int32 [rows]."""
    sequence: np.ndarray
    """Sequence in the token store's split, int64 [rows]."""
    position: np.ndarray
    """Position in the sequence, int64 [rows]."""


def blocks(
    store: ActivationStore, site: str, start: int, stop: int, d_sae: int
) -> Iterator[LabelledRows]:
    """Rows [start, stop) in blocks whose f has at most 16 MiB (but at least 64 rows).

    Raises:
        ValueError: a row is not finite.
        OSError: the store cannot be read.
    """
    rows = max(_FEWEST_ROWS, _BLOCK_NUMBERS // d_sae)
    chunk = store.spec.chunk_rows
    piece = max(1, _PIECE_BYTES // (4 * store.sites[site] * chunk)) * chunk
    with ThreadPoolExecutor(1, thread_name_prefix="scopeworks-read") as pool:
        firsts = range(start, stop, piece)

        def read(first: int) -> Future[LabelledRows]:
            return pool.submit(_read, store, site, first, min(first + piece, stop))

        reading = read(start) if firsts else None
        for first in firsts:
            done = read(first).result() if reading is None else reading.result()
            reading = read(first + piece) if first + piece < stop else None
            yield from _cut(done, rows)


def _read(store: ActivationStore, site: str, start: int, stop: int) -> LabelledRows:
    """Rows and labels as the store has them."""
    labels, x = store.labels(start, stop), store.read(site, start, stop)
    if not bool(torch.isfinite(x).all()):
        raise ValueError(
            f"rows of {site} must be finite, got NaN or Inf in rows {start} … {stop} of store "
            f"{store.url}; harvest again with --drop-nonfinite"
        )
    return LabelledRows(x, labels.token.astype(np.int32), labels.sequence, labels.position)


def _cut(block: LabelledRows, rows: int) -> Iterator[LabelledRows]:
    """A block in smaller ones."""
    for first in range(0, len(block.x), rows):
        part = slice(first, first + rows)
        yield LabelledRows(
            block.x[part], block.token[part], block.sequence[part], block.position[part]
        )


class Encoder:
    """An SAE's encoder, ready for blocks of rows on its device."""

    def __init__(self, sae: SAE):
        self.sae = sae
        self.is_dense = sae.config.k is not None or sae.W_enc.device.type != "cpu"
        """Whether f is computed as a dense array of all latents."""
        self._bias, self._theta = sae.b_enc.cpu().numpy(), sae.theta.cpu().numpy()
        self._nothing = np.zeros(sae.config.d_sae, np.float32)
        self._z = torch.empty(0, sae.config.d_sae)

    def dense(self, x: Tensor) -> np.ndarray:
        """f of rows x [rows, d_in] by `SAE.encode`: float32 [rows, d_sae]."""
        return self.sae.encode(x.to(self.sae.W_enc.device)).cpu().numpy()

    def entries(self, x: Tensor) -> RowFirings:
        """The latents that fire in rows x, float32 [rows, d_in].

        Raises:
            ValueError: an activation is not finite.
        """
        if self.is_dense:
            found = self._listed(self.dense(x), self._nothing, self._nothing)
        else:
            if len(self._z) < len(x):
                self._z = torch.empty(len(x), self.sae.config.d_sae)
            z = torch.mm(x, self.sae.W_enc, out=self._z[: len(x)])
            found = self._listed(z.numpy(), self._bias, self._theta)
        if not np.isfinite(found.value).all():
            raise ValueError(
                "activations must be finite, got an infinite one; the SAE does not belong to this "
                "site's rows"
            )
        return found

    def _listed(self, z: np.ndarray, bias: np.ndarray, theta: np.ndarray) -> RowFirings:
        n_blocks, start = blocks_for(z.size), np.zeros(len(z) + 1, np.int64)
        run_blocks(kernels.count_entries, n_blocks, z, bias, theta, start[1:])
        np.cumsum(start, out=start)
        latent, value = np.empty(start[-1], np.int32), np.empty(start[-1], np.float32)
        run_blocks(kernels.list_entries, n_blocks, z, bias, theta, start, latent, value)
        return RowFirings(start, latent, value)


@dataclass(frozen=True)
class Labeller:
    """Turns labels of rows into document, position bin and key, as the tally takes them."""

    documents: Documents
    position_edges: np.ndarray
    """Borders of the position bins, int64, from 0 to the context."""
    seed: int

    def rows(self, block: LabelledRows) -> RowFacts:
        """The facts of a block's rows.

        Raises:
            ValueError: a row's label is not in the token store.
        """
        most = len(self.documents.first), self.documents.context, _MOST_TOKENS
        labels = (block.sequence, block.position, block.token)
        for name, values, bound in zip(LABELS, labels, most, strict=True):
            if len(values) and not 0 <= values.min() <= values.max() < bound:
                raise ValueError(
                    f"{name} of the store's rows must be in 0 … {bound - 1:,}, as the token store "
                    f"has it, got {values.min()} … {values.max()}; harvest the rows again"
                )
        place = block.sequence * self.documents.context + block.position
        key = np.empty(len(place), np.uint64)
        kernels.row_keys(self.seed, place, key)
        return RowFacts(
            place,
            self.documents.of(block.sequence, block.position),
            block.token,
            np.searchsorted(self.position_edges, block.position, side="right") - 1,
            key,
        )


def position_edges(context: int) -> np.ndarray:
    """Borders of about 16 position bins, int64 [bins + 1], from 0 to context.

    Each bin is wider than the one before by a factor, because activations differ most at the first
    positions.
    """
    edges = np.round(np.geomspace(2, context, 16)).astype(np.int64) if context > 2 else []
    return np.unique([0, *edges, context])
