"""Samples of chosen latents: contexts with activations, and mean activations by token.

Owns the arrays' shapes, and how one latent's part is taken. `collect` fills them.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

EXPLAIN, TEST, SILENT, HARD = 0, 1, 2, 3
"""Kinds of contexts. EXPLAIN: shown to the explainer. TEST: tests in which the latent fires.
SILENT: tests in which it does not. HARD: tests in which it does not, although they hold one of its
top tokens."""

N_TOP = 5
"""Tokens that count as a latent's top tokens."""


@dataclass(frozen=True)
class UnigramTable:
    """Latents' firings and activations by token, over all contexts of the half that explains."""

    token: Int[np.ndarray, "u"]
    """Tokens that occur, ascending."""
    token_rows: Int[np.ndarray, "u"]
    """Rows of each token."""
    offsets: Int[np.ndarray, "k_plus_1"]
    """Latent k's entries in the arrays below are [offsets[k], offsets[k + 1])."""
    fired_at: Int[np.ndarray, "m"]
    """Tokens at which it fires, ascending, as indices into `token`."""
    fired: Int[np.ndarray, "m"]
    """Rows of that token in which it fires."""
    total: Float[np.ndarray, "m"]
    """Σ f over those rows, float64."""

    @property
    def rows(self) -> int:
        """Rows of the half that explains."""
        return int(self.token_rows.sum())

    def predict(self, k: int, tokens: Int[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """E[f | token], float64; the mean over all rows for a token that does not occur."""
        part = slice(self.offsets[k], self.offsets[k + 1])
        means = np.zeros(len(self.token) + 1)
        means[self.fired_at[part]] = self.total[part] / self.token_rows[self.fired_at[part]]
        means[-1] = self.total[part].sum() / max(1, self.rows)
        at = np.searchsorted(self.token, tokens)
        at = np.where(at < len(self.token), at, 0)
        known = self.token[at] == tokens if len(self.token) else np.zeros(at.shape, bool)
        return means[np.where(known, at, -1)]

    def top(self, k: int, n: int = N_TOP) -> list[tuple[int, int, int, float]]:
        """The n tokens at which latent k fires most often; of equals the smaller id first.

        Returns:
            (token, firings, rows of the token, mean f where it fires) of each.
        """
        part = slice(self.offsets[k], self.offsets[k + 1])
        at, fired, total = self.fired_at[part], self.fired[part], self.total[part]
        order = np.argsort(-fired, kind="stable")[:n]
        return [
            (
                int(self.token[at[i]]),
                int(fired[i]),
                int(self.token_rows[at[i]]),
                float(total[i] / fired[i]),
            )
            for i in order
        ]

    def firings(self, k: int) -> int:
        """Rows of the half that explains in which latent k fires."""
        return int(self.fired[self.offsets[k] : self.offsets[k + 1]].sum())


class DrawnContexts(NamedTuple):
    """Contexts of one latent."""

    quantile: Int[np.ndarray, "n"]
    sequence: Int[np.ndarray, "n"]
    start: Int[np.ndarray, "n"]
    tokens: Int[np.ndarray, "n context"]
    f: Float[np.ndarray, "n context"]

    def __len__(self) -> int:
        return len(self.start)

    @property
    def known(self) -> Bool[np.ndarray, "n context"]:
        """Where the store has a row."""
        return ~np.isnan(self.f)


@dataclass(frozen=True)
class Samples:
    """Contexts of K latents, one row each, sorted by latent, then kind, then quantile.

    Contexts that explain and contexts that test come from different documents. No two contexts of a
    store have the same tokens.
    """

    latents: Int[np.ndarray, " K"]
    """The latents' numbers in the SAE."""
    rows: int
    """Rows that were read."""
    fired: Int[np.ndarray, " K"]
    """Rows, of those, in which each latent fires."""
    largest: Float[np.ndarray, " K"]
    """Largest activation over the contexts of the half that explains."""
    unigrams: UnigramTable
    column: Int[np.ndarray, "n"]
    """Which of `latents` a context is for."""
    kind: Int[np.ndarray, "n"]
    """EXPLAIN, TEST, SILENT or HARD."""
    quantile: Int[np.ndarray, "n"]
    """Band of strength by its peak, 1 the strongest; 0 where the latent does not fire."""
    sequence: Int[np.ndarray, "n"]
    """Sequence in the token store's split."""
    start: Int[np.ndarray, "n"]
    """Position of its first token."""
    tokens: Int[np.ndarray, "n context"]
    f: Float[np.ndarray, "n context"]
    """The latent's activation at every token; NaN where the store has no row (special tokens)."""

    @property
    def density(self) -> Float[np.ndarray, " K"]:
        """Share of the rows in which it fires."""
        return self.fired / max(1, self.rows)

    def of(self, k: int, *kinds: int) -> DrawnContexts:
        """Latent k's contexts of these kinds, in that order."""
        first, stop = np.searchsorted(self.column, [k, k + 1])
        kind = self.kind[first:stop]
        at = np.concatenate([first + np.flatnonzero(kind == one) for one in kinds])
        return DrawnContexts(
            self.quantile[at], self.sequence[at], self.start[at], self.tokens[at], self.f[at]
        )

    def tests(self, k: int) -> tuple[DrawnContexts, Bool[np.ndarray, "n"]]:
        """Latent k's contexts that test an explanation, and in which of them it fires."""
        drawn = self.of(k, TEST, SILENT, HARD)
        return drawn, drawn.quantile > 0
