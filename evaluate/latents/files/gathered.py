"""All results, latent by latent, of activations and weights: the source of an index's files.

Owns the slices of a latent's examples and tokens, and the texts of token ids. Writes nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ..contents import Directions, Firings
from .manifest import Manifest
from .records import rounded

Decode = Callable[[Sequence[int]], list[str]]
"""Gives the text of each token id by itself. The bytes of a token that is a part of a character are
surrogates (Python's `surrogateescape`)."""

_MOST_JOINED = 8
"""Most tokens that are joined to make whole characters."""


class Snippet(NamedTuple):
    """An example: tokens around one at which a latent fires."""

    band: int
    texts: list[str]
    values: list[float]
    """Feature activations."""
    at: int
    """Index of the token at which it fires."""


@dataclass(frozen=True)
class Gathered:
    """All that is known of an SAE's latents."""

    manifest: Manifest
    firings: Firings
    directions: Directions
    decode: Decode
    theta: Float[np.ndarray, " d_sae"]
    _starts: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        d_sae = self.manifest.sae.d_sae
        edges = np.arange(d_sae + 1)
        self._starts["examples"] = np.searchsorted(self.firings.examples.latent, edges)
        self._starts["tokens"] = np.searchsorted(self.firings.token_latent, edges)
        for name, array in (("fired", self.firings.fired), ("theta", self.theta)):
            assert len(array) == d_sae, f"{name} has {len(array)} latents, not {d_sae}"

    def examples_of(self, latent: int) -> slice:
        """A latent's rows of the examples."""
        starts = self._starts["examples"]
        return slice(int(starts[latent]), int(starts[latent + 1]))

    def tokens_of(self, latent: int) -> slice:
        """A latent's entries of the tokens."""
        starts = self._starts["tokens"]
        return slice(int(starts[latent]), int(starts[latent + 1]))

    @cached_property
    def texts(self) -> dict[int, str]:
        """Text of every token that occurs, as `Decode` gives it."""
        found = [self.firings.examples.tokens, self.firings.token]
        found += [self.directions.raised, self.directions.lowered]
        ids = np.unique(np.concatenate([np.unique(array) for array in found]))
        known = [int(i) for i in ids if i >= 0]
        return dict(zip(known, self.decode(known), strict=True))

    @cached_property
    def _broken(self) -> set[int]:
        """Tokens that are parts of characters; few snippets have one."""
        return {i for i, text in self.texts.items() if _is_broken(text)}

    def snippets(self, latent: int) -> list[Snippet]:
        """A latent's examples, by band, then falling value."""
        rows, examples = self.examples_of(latent), self.firings.examples
        values, n_tokens = rounded(examples.f[rows]), (examples.tokens[rows] >= 0).sum(1).tolist()
        ids = examples.tokens[rows].tolist()
        at = (examples.position[rows] - examples.start[rows]).tolist()
        return [
            Snippet(band, self.words(ids[k][:n]), values[k][:n], at[k])
            for k, (band, n) in enumerate(zip(examples.band[rows].tolist(), n_tokens, strict=True))
        ]

    def words(self, ids: list[int]) -> list[str]:
        """Texts of tokens in a row, see `joined`."""
        texts = [self.texts[i] for i in ids]
        return texts if self._broken.isdisjoint(ids) else joined(texts)

    def token_shares(self, latent: int) -> list[list[Any]]:
        """Text, id, share of the latent's firings, share of the token's rows in which it fires.

        The token with most firings is first. The last share is an estimate if not all firings were
        drawn.
        """
        part, firings = self.tokens_of(latent), self.firings
        drawn = max(int(firings.drawn[latent]), 1)
        counts = firings.token_count[part]
        times = int(firings.fired[latent]) / drawn
        shares = np.minimum(counts * times / np.maximum(firings.token_rows[part], 1), 1)
        ids = firings.token[part].tolist()
        return [
            [shown(self.texts[i]), i, a, b]
            for i, a, b in zip(ids, counts / drawn, shares, strict=True)
        ]

    def output_tokens(self, latent: int, side: str) -> list[tuple[str, int, float]]:
        """Text, id and effect of the `raised` or `lowered` output tokens."""
        ids = getattr(self.directions, side)[latent].tolist()
        effects = getattr(self.directions, f"{side}_by")[latent].tolist()
        return [(shown(self.texts[i]), i, e) for i, e in zip(ids, effects, strict=True) if i >= 0]


def shown(text: str) -> str:
    """A token's text by itself; bytes that are no character as `\\xe2`."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def joined(texts: list[str]) -> list[str]:
    """Texts of consecutive tokens.

    A character that several tokens share is at the first of them; the others are empty.
    """
    found, start = [], 0
    while start < len(texts):
        stop = start + 1
        if _is_broken(texts[start]):
            while stop < len(texts) and stop < start + _MOST_JOINED and _is_broken(texts[stop]):
                stop += 1
        stop = next((s for s in range(start + 2, stop + 1) if _is_whole(texts[start:s])), start + 1)
        whole = shown("".join(texts[start:stop]))
        found += [whole] + [""] * (stop - start - 1)
        start = stop
    return found


def _is_broken(text: str) -> bool:
    return any("\udc80" <= letter <= "\udcff" for letter in text)


def _is_whole(texts: list[str]) -> bool:
    """Whether the bytes of these texts, joined, are whole characters."""
    try:
        "".join(texts).encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
