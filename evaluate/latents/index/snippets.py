"""Snippets: the firings that are shown, their tokens, and the activation at every token.

Owns the choice among the firings that the pass has kept. The latent fires in each of its snippets,
and no two of them are of one document or have the same tokens. Tokens come from the token store,
activations from the stored rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ....harvest.rows.documents import Documents
from ....store import TokenStore
from ..contents import Examples
from .settings import IndexSettings
from .tally.kernels import EvenDraw, Top, fast, jit

OVER_COLLECTED = 4
"""Candidates kept for each of the strongest examples, because some have the same tokens."""

_SCAN_TOKENS = 2**22


@dataclass(frozen=True)
class Windows:
    """The tokens around places of a split; a place is sequence · context + position."""

    sequences: Any
    """Token ids [n, context], unsigned; can be sliced by sequence."""
    pad: int | None
    before: int
    after: int

    @classmethod
    def of(cls, settings: IndexSettings, tokens: TokenStore, split: str) -> "Windows":
        """The windows of an index."""
        return cls(tokens.sequences(split), tokens.pad, settings.before, settings.after)

    def tokens(self, place: np.ndarray) -> np.ndarray:
        """The snippets' token ids, int32 [n, window], filled up with -1.

        A snippet ends before PAD and at its sequence's end.
        """
        found = np.full((len(place), self.before + 1 + self.after), -1, np.int32)
        for mine, snippets in self._visited(place):
            found[mine] = snippets
        return found

    def digests(self, place: np.ndarray) -> np.ndarray:
        """A number of each snippet's tokens, uint64 [n]: equal for equal tokens."""
        found = np.empty(len(place), np.uint64)
        for mine, snippets in self._visited(place):
            found[mine] = _digests(snippets)
        return found

    def start(self, place: np.ndarray) -> np.ndarray:
        """Position of each snippet's first token, int64 [n]."""
        return np.maximum(place % self.sequences.shape[1] - self.before, 0)

    def _visited(self, place: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(numbers, tokens) of all snippets, some at a time, in the order of the sequences."""
        n, context = self.sequences.shape
        order, step = np.argsort(place, kind="stable"), max(1, _SCAN_TOKENS // context)
        pad = -1 if self.pad is None else self.pad
        for first in range(0, n, step):
            bounds = np.searchsorted(
                place, [first * context, (first + step) * context], sorter=order
            )
            mine = order[bounds[0] : bounds[1]]
            if not len(mine):
                continue
            ids = np.ascontiguousarray(self.sequences[first : first + step])
            for some in np.array_split(mine, -(-len(mine) // 2**16)):
                shape = (len(some), self.before + 1 + self.after)
                snippets = np.full(shape, -1, np.int32)
                where = place[some] - first * context
                _cut(ids, where, self.before, self.after, pad, snippets)
                yield some, snippets


@jit
def _cut(ids, place, before, after, pad, out):
    """Snippets [n, window] around places of ids [sequences, context]."""
    context = ids.shape[1]
    for i in range(place.size):
        sequence, position = place[i] // context, place[i] % context
        start = max(position - before, 0)
        for p in range(start, min(position + after + 1, context)):
            if p > position and ids[sequence, p] == pad:
                break
            out[i, p - start] = ids[sequence, p]


@jit
def _digests(snippets):
    """A 64-bit number of each snippet's tokens."""
    found = np.empty(snippets.shape[0], np.uint64)
    for i in range(found.size):
        word = np.uint64(0xCBF29CE484222325)
        for token in snippets[i]:
            word = (word ^ np.uint64(token + 2)) * np.uint64(0x9E3779B97F4A7C15)
            word ^= word >> np.uint64(29)
        found[i] = word
    return found


@dataclass(frozen=True)
class Listed:
    """The drawn firings of all latents in one list, by latent, then key."""

    latent: np.ndarray  # int64
    place: np.ndarray  # int64
    value: np.ndarray  # float32
    token: np.ndarray  # int32

    @classmethod
    def of(cls, drawn: EvenDraw) -> "Listed":
        """The drawn firings of a tally."""
        mine = np.arange(drawn.key.shape[1]) < drawn.n[:, None]
        latent, key = np.nonzero(mine)[0], drawn.key[mine]
        order = np.lexsort([key, latent])
        columns = (drawn.place[mine], drawn.value[mine], drawn.token[mine])
        return cls(latent[order], *(column[order] for column in columns))

    def bands(self, n_bands: int) -> np.ndarray:
        """Each firing's band, int64, 1 … n_bands by falling strength; all bands of a latent have
        equal shares."""
        order = np.lexsort([self.place, -self.value.astype(np.float64), self.latent])
        n = np.bincount(self.latent, minlength=1)
        first = np.concatenate([[0], np.cumsum(n)])
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order)) - first[self.latent[order]]
        return rank * n_bands // n[self.latent] + 1


def choose(
    top: Top, drawn: Listed, windows: Windows, documents: Documents, settings: IndexSettings
) -> Examples:
    """The examples of all latents; `f` is set at the token of the firing and 0 elsewhere.

    A latent's strongest firings come first, each the strongest of its document; then the drawn
    firings of each band, in the order of their keys. A firing is left out if the latent already has
    an example of its document or with its tokens.
    """
    latent, slot = np.nonzero(np.arange(top.value.shape[1]) < top.n[:, None])
    n_top, bands = len(latent), settings.bands
    some = slice(None if bands else 0)
    place = np.concatenate([top.place[latent, slot], drawn.place[some]])
    value = np.concatenate([top.value[latent, slot], drawn.value[some]])
    band = np.concatenate([np.zeros(n_top, np.int64), drawn.bands(bands)[some] if bands else []])
    latent = np.concatenate([latent, drawn.latent[some]])
    order = np.argsort(latent, kind="stable")  # the strongest stay before the drawn
    context = windows.sequences.shape[1]
    document = documents.of(place // context, place % context)
    most = np.array([settings.top, *[settings.per_band] * bands])
    band = band.astype(np.int64)
    kept = np.zeros(len(order), np.bool_)
    _choose(order, latent, band, document, windows.digests(place), most, kept)
    chosen = np.flatnonzero(kept)
    chosen = chosen[
        np.lexsort([place[chosen], -value[chosen].astype(np.float64), band[chosen], latent[chosen]])
    ]
    return _examples(latent[chosen], band[chosen], place[chosen], value[chosen], windows)


def _examples(
    latent: np.ndarray, band: np.ndarray, place: np.ndarray, value: np.ndarray, windows: Windows
) -> Examples:
    """Chosen places as examples."""
    context = windows.sequences.shape[1]
    start = windows.start(place)
    f = np.zeros((len(place), windows.before + 1 + windows.after), np.float32)
    f[np.arange(len(place)), place % context - start] = value
    return Examples(
        latent=latent,
        band=band,
        sequence=place // context,
        position=place % context,
        start=start,
        value=value,
        tokens=windows.tokens(place),
        f=f,
    )


@jit
def _choose(order, latent, band, document, digest, most, kept):
    """Marks the kept candidates, going through those of each latent in order."""
    taken = np.empty(most.sum(), np.int64)
    left, n, before = most.copy(), 0, -1
    for k in range(order.size):
        i = order[k]
        if latent[i] != before:
            before, n = latent[i], 0
            left[:] = most
        if left[band[i]] == 0:
            continue
        fresh = True
        for t in range(n):
            other = taken[t]
            if document[other] == document[i] or digest[other] == digest[i]:
                fresh = False
                break
        if fresh:
            left[band[i]] -= 1
            kept[i], taken[n] = True, i
            n += 1


@dataclass(frozen=True)
class Needed:
    """The activations that the examples need, by sequence; all arrays are int64."""

    order: np.ndarray
    """Numbers of the examples, sorted by sequence, [examples]."""
    first: np.ndarray
    """Index in `order` of each sequence's first example, [sequences + 1]."""
    latent: np.ndarray
    """Latent of each example, [examples]."""
    start: np.ndarray
    """Position of each snippet's first token, [examples]."""
    length: np.ndarray
    """Number of tokens of each snippet, [examples]."""

    @classmethod
    def of(cls, examples: Examples, n_sequences: int) -> "Needed":
        """What these examples need, of a split with `n_sequences` sequences."""
        return cls(
            np.argsort(examples.sequence, kind="stable"),
            np.searchsorted(np.sort(examples.sequence), np.arange(n_sequences + 1)),
            examples.latent,
            examples.start,
            (examples.tokens >= 0).sum(axis=1),
        )

    def arrays(self) -> tuple[np.ndarray, ...]:
        """The arrays in the order of the loops' arguments."""
        return self.order, self.first, self.latent, self.start, self.length


@jit
def fill_from(block, n_blocks, sequence, position, needed, f, out):
    """out[example, token] = f[row, latent] for each needed row of a block.

    Args:
        sequence, position: int64 [rows].
        needed: `Needed.arrays`.
        f: float32 [rows, d_sae].
        out: float32 [examples, window].
    """
    order, first, latent, start, length = needed
    for r in range(block * sequence.size // n_blocks, (block + 1) * sequence.size // n_blocks):
        for k in range(first[sequence[r]], first[sequence[r] + 1]):
            i = order[k]
            at = position[r] - start[i]
            if 0 <= at < length[i]:
                out[i, at] = f[r, latent[i]]


@fast
def _product(x, w):
    """x · w."""
    total = np.float32(0)
    for k in range(x.size):
        total += x[k] * w[k]
    return total


@jit
def fill_by_products(block, n_blocks, sequence, position, needed, x, W, bias, theta, out):
    """Like `fill_from`, but from rows x [rows, d_in] and the encoder W [d_sae, d_in]: one product
    for each activation that is needed."""
    order, first, latent, start, length = needed
    for r in range(block * sequence.size // n_blocks, (block + 1) * sequence.size // n_blocks):
        for k in range(first[sequence[r]], first[sequence[r] + 1]):
            i = order[k]
            at, j = position[r] - start[i], latent[i]
            if 0 <= at < length[i]:
                f = _product(x[r], W[j]) + bias[j]
                if f > theta[j] and f > np.float32(0):
                    out[i, at] = f
