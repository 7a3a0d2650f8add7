"""The two passes over a store's rows: peaks and sums by token, then values of drawn contexts.

Owns what is read and how often: all rows twice, in blocks of one size. Memory is one number per
context and latent, and three per latent and token at which it fires.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ....store import ActivationStore
from .contexts import Contexts, blocks
from .sample_set import UnigramTable

Encode = Callable[[Tensor], Tensor]
"""Rows x [n, d_in] -> activations of the K latents [n, K]."""


class Swept(NamedTuple):
    """What the first pass finds."""

    fired: Int[np.ndarray, " K"]
    """Rows in which each latent fires, of all rows read."""
    peaks: Float[np.ndarray, "contexts K"]
    """Largest activation in each context, float32."""
    unigrams: UnigramTable


class _Firing(NamedTuple):
    """Firings in a block of rows, one entry each."""

    row: Int[np.ndarray, "n"]
    column: Int[np.ndarray, "n"]
    f: Float[np.ndarray, "n"]


def sweep(
    store: ActivationStore, site: str, encode: Encode, n_latents: int, rows: int, found: Contexts
) -> Swept:
    """The first pass: how often each latent fires, its peak in each context, and sums by token."""
    fired = np.zeros(n_latents, dtype=np.int64)
    peaks = np.zeros((len(found), n_latents), dtype=np.float32)
    sums = _TokenSums(int(found.tokens.max()) + 1)
    for first, stop in blocks(rows):
        labels = store.labels(first, stop)
        firing = _firing(store, site, encode, first, stop)
        fired += np.bincount(firing.column, minlength=n_latents)
        context = found.of(labels)
        at = context[firing.row]
        inside = at >= 0
        np.maximum.at(peaks, (at[inside], firing.column[inside]), firing.f[inside])
        explains = (context >= 0) & ~found.tests[context]
        sums.rows(labels.token[explains])
        counted = explains[firing.row]
        sums.firings(firing.column[counted], labels.token[firing.row[counted]], firing.f[counted])
    return Swept(fired, peaks, sums.result(n_latents))


def values(
    store: ActivationStore,
    site: str,
    encode: Encode,
    rows: int,
    found: Contexts,
    column: Int[np.ndarray, " n"],
    context: Int[np.ndarray, " n"],
) -> Float[np.ndarray, "n size"]:
    """The second pass: each drawn context's activations of its latent, float32.

    Args:
        column, context: latent and context of each draw; no pair twice.

    Returns:
        NaN where the store has no row.
    """
    f = np.where(found.known[context], np.float32(0), np.float32(np.nan))
    if not len(column):
        return f
    wanted = np.zeros(len(found) + 1, dtype=bool)  # one more for -1, no context
    wanted[context] = True
    n_columns = int(column.max(initial=0)) + 1
    key = context * n_columns + column
    order = np.argsort(key)
    for first, stop in blocks(rows):
        labels = store.labels(first, stop)
        at = found.of(labels)
        if not wanted[at].any():
            continue
        firing = _firing(store, site, encode, first, stop)
        here = at[firing.row]
        asked = here * n_columns + firing.column
        slot = np.searchsorted(key, asked, sorter=order)
        slot = order[np.minimum(slot, len(order) - 1)]
        hit = (key[slot] == asked) & wanted[here] & (firing.column < n_columns)
        offset = labels.position[firing.row[hit]] % found.size
        f[slot[hit], offset] = firing.f[hit]
    return f


def _firing(store: ActivationStore, site: str, encode: Encode, first: int, stop: int) -> _Firing:
    """Where latents fire in rows [first, stop)."""
    with torch.no_grad():
        f = encode(store.read(site, first, stop)).numpy()
    row, column = np.nonzero(f > 0)
    return _Firing(row, column, f[row, column])


class _TokenSums:
    """Rows by token, and firings and Σ f by latent and token.

    Σ f is float64, added in the order of the rows, so that it is the same on any machine.
    """

    _MERGE = 1 << 20  # firings that are kept before they are summed

    def __init__(self, n_tokens: int):
        self._n_tokens = n_tokens
        self._rows = np.zeros(n_tokens, dtype=np.int64)
        self._key = np.empty(0, dtype=np.int64)
        self._fired = np.empty(0, dtype=np.int64)
        self._total = np.empty(0)
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self._n_waiting = 0

    def rows(self, token: Int[np.ndarray, "n"]) -> None:
        """Adds rows."""
        self._rows += np.bincount(token, minlength=self._n_tokens)

    def firings(
        self, column: Int[np.ndarray, "n"], token: Int[np.ndarray, "n"], f: Float[np.ndarray, "n"]
    ) -> None:
        """Adds firings."""
        self._waiting.append((column * self._n_tokens + token, f))
        self._n_waiting += len(f)
        if self._n_waiting > self._MERGE:
            self._merge()

    def _merge(self) -> None:
        """Adds the waiting firings to the sums."""
        keys = [self._key, *(key for key, _ in self._waiting)]
        counts = [self._fired, *(np.ones(len(f), dtype=np.int64) for _, f in self._waiting)]
        totals = [self._total, *(f.astype(np.float64) for _, f in self._waiting)]
        self._waiting, self._n_waiting = [], 0
        self._key, at = np.unique(np.concatenate(keys), return_inverse=True)
        n = len(self._key)
        self._fired = np.zeros(n, dtype=np.int64)
        np.add.at(self._fired, at, np.concatenate(counts))
        self._total = np.bincount(at, np.concatenate(totals), minlength=n)

    def result(self, n_latents: int) -> UnigramTable:
        """The tables."""
        self._merge()
        token = np.flatnonzero(self._rows)
        column, at = np.divmod(self._key, self._n_tokens)
        return UnigramTable(
            token=token,
            token_rows=self._rows[token],
            offsets=np.searchsorted(column, np.arange(n_latents + 1)),
            fired_at=np.searchsorted(token, at),
            fired=self._fired,
            total=self._total,
        )
