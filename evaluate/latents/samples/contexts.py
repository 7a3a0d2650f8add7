"""Contexts: windows of sequences whose rows the store has, each text once, in two halves.

Owns which windows can be drawn, and which half (explains or tests) each belongs to. Knows no SAE.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, UInt32

from ....harvest.rows.documents import documents_of
from ....harvest.rows.prepare import special_ids
from ....store import ActivationStore, TokenStore
from ....store.read.reader import Labels

BLOCK = 16384
"""Rows that are read at a time."""
_SEQUENCES = 4096
"""Sequences that are read at a time."""


@dataclass(frozen=True)
class Contexts:
    """The contexts that can be drawn.

    A sequence is cut into windows from its start; a rest at its end is dropped. A window is kept if
    at least half of its tokens have a row and the others are special, if its documents are all of
    one half, and if no earlier context has the same tokens.
    """

    size: int
    """Tokens in a context."""
    per_sequence: int
    """Windows in a sequence."""
    number: Int[np.ndarray, " windows"]
    """Window of the store (sequence · per_sequence + place) -> number of the context, or -1."""
    sequence: Int[np.ndarray, " n"]
    start: Int[np.ndarray, " n"]
    tokens: Int[np.ndarray, "n size"]
    known: Bool[np.ndarray, "n size"]
    """Where the store has a row."""
    tests: Bool[np.ndarray, " n"]
    """Whether the context is of the half that tests."""

    def __len__(self) -> int:
        return len(self.start)

    def of(self, labels: Labels) -> Int[np.ndarray, " rows"]:
        """The context of each row; -1 for a row of no context."""
        place = labels.position // self.size
        window = labels.sequence * self.per_sequence + np.minimum(place, self.per_sequence - 1)
        return np.where(place < self.per_sequence, self.number[window], -1)


def blocks(rows: int) -> Iterator[tuple[int, int]]:
    """Rows in blocks of `BLOCK`, the last one shorter: [first, stop) each."""
    for first in range(0, rows, BLOCK):
        yield first, min(first + BLOCK, rows)


def rows_within(store: ActivationStore, rows: int) -> int:
    """`rows` rounded up to whole buckets.

    Rows of a bucket are in random order, so part of a bucket would complete hardly any context.
    """
    stops = np.cumsum([commit.rows for commit in store.commits])
    return int(stops[min(np.searchsorted(stops, rows), len(stops) - 1)])


def cut(store: ActivationStore, tokens: TokenStore, rows: int, size: int, seed: int) -> Contexts:
    """The contexts of a store's first rows.

    Args:
        store: the activation store.
        tokens: the token store that it was harvested from.
        rows: how many rows are used.
        size: tokens in a context; at most a sequence's.
        seed: decides which documents explain and which test.

    Raises:
        ValueError: the tokens are not those of the store, or no context is whole.
    """
    split = _checked_split(store, tokens)
    size = min(size, tokens.context)
    per_sequence = tokens.context // size
    covered = _covered(store, rows, tokens.context)
    whole = covered[:, : per_sequence * size].reshape(-1, size)
    windows = _Windows(store, tokens, split, size, seed)
    parts = [
        windows.of(first, whole[first * per_sequence : (first + _SEQUENCES) * per_sequence])
        for first in range(0, len(covered), _SEQUENCES)
    ]
    ids, usable, side = (np.concatenate(part) for part in zip(*parts, strict=True))
    kept = np.flatnonzero(usable)
    kept = kept[_first_of_equals(ids[kept])]
    side = side[kept]
    if len(kept) == side.sum() or not side.any():
        raise ValueError(
            f"rows of store {store.url} must hold whole contexts of {size} tokens of several "
            f"documents, got {len(kept)} contexts of one half of the documents in {rows:,} rows; "
            "harvest more, or take a smaller context"
        )
    number = np.full(len(ids), -1)
    number[kept] = np.arange(len(kept))
    sequence, place = np.divmod(kept, per_sequence)
    tokens_of = ids[kept].astype(np.int64)
    return Contexts(
        size, per_sequence, number, sequence, place * size, tokens_of, whole[kept], side
    )


class _Windows:
    """The windows of some sequences: their tokens, and the half they belong to."""

    def __init__(
        self, store: ActivationStore, tokens: TokenStore, split: str, size: int, seed: int
    ):
        self._sequences, self._documents = tokens.sequences(split), documents_of(tokens, split)
        self._size, self._seed = size, seed
        self._cut = tokens.context // size * size
        masked = store.provenance.get("masked_token_ids", ())
        self._masked = np.array([*special_ids(tokens), *masked], dtype=np.uint32)
        self._prefix = np.arange(self._cut) < store.provenance.get("masked_prefix", 0)

    def of(
        self, first: int, whole: Bool[np.ndarray, "m size"]
    ) -> tuple[UInt32[np.ndarray, "m size"], Bool[np.ndarray, " m"], Bool[np.ndarray, " m"]]:
        """The windows of sequences from `first` on.

        Args:
            first: the first sequence.
            whole: m windows: whether the store has a row of each token.

        Returns:
            The windows' tokens, whether each can be drawn, and whether it is of the half that
            tests.
        """
        n = whole.size // self._cut
        ids = np.asarray(self._sequences[first : first + n])[:, : self._cut]
        masked = np.isin(ids, self._masked) | self._prefix
        sequence, position = np.divmod(np.arange(ids.size), self._cut)
        document = self._documents.of(first + sequence, position)
        tests = _second_half(document, self._seed).reshape(whole.shape) & whole
        usable = (whole | masked.reshape(whole.shape)).all(1) & (2 * whole.sum(1) >= self._size)
        # A window of two documents of different halves is of neither.
        usable &= ~tests.any(1) | (tests == whole).all(1)
        return ids.reshape(whole.shape), usable, np.any(tests, axis=1)


def _checked_split(store: ActivationStore, tokens: TokenStore) -> str:
    """The split that the store was harvested from; checks that the tokens are its own."""
    recorded = store.provenance.get("tokens")
    if recorded is not None and recorded != tokens.fingerprint:
        raise ValueError(
            f"tokens of store {store.url} must have the fingerprint {recorded[:16]}…, got "
            f"{tokens.fingerprint[:16]}… in {tokens.url}; pass the token store it was harvested "
            "from"
        )
    return str(store.provenance.get("split", "train"))


def _covered(store: ActivationStore, rows: int, context: int) -> Bool[np.ndarray, "sequences seq"]:
    """Which tokens have a row among the store's first `rows`."""
    last = max(int(store.labels(*block).sequence.max()) for block in blocks(rows))
    covered = np.zeros((last + 1, context), dtype=bool)
    for block in blocks(rows):
        labels = store.labels(*block)
        covered[labels.sequence, labels.position] = True
    return covered


def _second_half(units: Int[np.ndarray, " n"], seed: int) -> Bool[np.ndarray, " n"]:
    """Whether a document is of the half that tests: one bit of its number's hash (splitmix64).

    The bit does not change when a store grows.
    """
    with np.errstate(over="ignore"):
        x = units.astype(np.uint64) + np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) & np.uint64(1)).astype(bool)


def _first_of_equals(tokens: UInt32[np.ndarray, "n size"]) -> Int[np.ndarray, " m"]:
    """The first of each group of contexts with the same tokens, in order.

    A text in both halves would test an explanation that it has helped to make.
    """
    rows = np.ascontiguousarray(tokens)
    view = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    _, first = np.unique(view, return_index=True)
    return np.sort(first)
