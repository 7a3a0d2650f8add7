"""Documents: which document of the text a row comes from, found from the tokens alone.

Owns the numbering; a token store keeps no numbers of documents. Where `scopeworks tokenize` has
packed documents one after the other, they are counted in the order in which they were read. In any
other store a document is what is between two EOS tokens of a sequence. Memory grows with the
sequences and the documents, not with the tokens.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...store import TokenStore
from ..tokens.packing import sequence_order

_SCAN_TOKENS = 2**22


@dataclass(frozen=True)
class Documents:
    """The documents of a split, numbered from 0; see `documents_of`."""

    across: bool
    """Whether a document may continue in another sequence. If not, no two sequences share one."""
    context: int
    """Tokens per sequence."""
    first: np.ndarray
    """int64 [sequences]: the document that a sequence begins with."""
    before: np.ndarray
    """int64 [sequences]: EOS tokens in the sequences before it, as they are stored."""
    ends: np.ndarray
    """int64, rising: sequence · context + position of every EOS token."""

    def of(self, sequence: np.ndarray, position: np.ndarray) -> np.ndarray:
        """The documents, int64 [n], of the tokens at int64 [n] positions of sequences; an EOS token
        is the last one of its document."""
        passed = np.searchsorted(self.ends, sequence * self.context + position)
        return self.first[sequence] + passed - self.before[sequence]


def documents_of(tokens: TokenStore, split: str) -> Documents:
    """Numbers the documents of a split, reading its tokens once.

    Raises:
        ValueError: there is no such split.
    """
    sequences = tokens.sequences(split)
    order = _order_of_reading(tokens, split, len(sequences))
    return numbered(sequences, tokens.eos, order)


def numbered(sequences: Any, eos: int | None, order: np.ndarray | None) -> Documents:
    """Numbers the documents of sequences [n, context].

    Args:
        sequences: unsigned ids, sliceable.
        eos: the token that ends a document; None where there is none.
        order: int64 [n], the place of each sequence among them in the order of reading, where they
            are one stream cut into sequences; None where no document goes across two.
    """
    n, context = sequences.shape
    places, counts = [], np.zeros(n, dtype=np.int64)
    step = max(1, _SCAN_TOKENS // context)
    for start in range(0, n if eos is not None else 0, step):
        found, position = np.nonzero(np.asarray(sequences[start : start + step]) == eos)
        places.append((start + found) * context + position)
        counts[start : start + step] = np.bincount(found, minlength=min(step, n - start))
    ends = np.concatenate(places) if places else np.empty(0, dtype=np.int64)
    before = np.cumsum(counts) - counts
    if order is None:
        return Documents(False, context, before + np.arange(n), before, ends)
    read = np.empty(n, dtype=np.int64)
    read[order] = counts
    return Documents(True, context, (np.cumsum(read) - read)[order], before, ends)


def _order_of_reading(tokens: TokenStore, split: str, n: int) -> np.ndarray | None:
    """Each stored sequence's place in the stream of documents; None if there was no such stream, or
    the store does not say."""
    settings = tokens.provenance.get("settings")
    if not isinstance(settings, dict) or settings.get("packing") != "concatenate":
        return None
    seed = settings.get("seed")
    if type(seed) is not int or not 0 <= seed < 2**63 or tokens.eos is None:
        return None
    return sequence_order(n, seed, split)
