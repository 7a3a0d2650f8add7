"""Splits: which documents are trained on and which are held out, each packed into its sequences.

Owns the splits' names, and one packer and one spool of sequences for each. `packing` has packers
and spools.
"""

import re
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from ..settings import TokenizeSettings
from ..text.documents import TextDocument, is_held_out
from .packing import Packer, Spool, Wrapper

TRAIN, HELD_OUT = "train", "held_out"

PARTS = "parts"
"""The split beside `held_out` with the part of a conversation that each position belongs to."""

PART_NUMBERS = {"prompt": 1, "rollout": 2}
"""Numbers of the parts of a conversation; 0 is everything else: BOS, the constant prefix, PAD."""

MORE_DOCUMENTS = "split the text into more documents: a file is one, and so is a row of JSON lines"
"""What to do where too few documents were read for a share of them to be held out."""

_MAX_SUBSETS = 100
_MAX_NAME = 200
"""Characters of a split's name in a token store."""


def split_of(document: TextDocument, settings: TokenizeSettings) -> str:
    """A document's split: `train`, `held_out`, or `held_out.<subset>`, which `held_out` includes.

    A pure function of the document and the settings: every process decides the same.
    """
    if not is_held_out(document.text, settings.held_out):
        return TRAIN
    if settings.subset_field is None:
        return HELD_OUT
    return f"{HELD_OUT}.{re.sub(r'[^A-Za-z0-9_-]+', '_', document.subset)}"


class Splits:
    """One packer and one spool for every split, made when its first document comes."""

    def __init__(
        self,
        settings: TokenizeSettings,
        new_packer: Callable[[], Packer | Wrapper],
        scratch_dir: Path | None,
        stack: ExitStack,
    ):
        """The spools' files are in `scratch_dir`, and closed with `stack`."""
        self._settings, self._new_packer = settings, new_packer
        self._scratch_dir, self._stack = scratch_dir, stack
        self._splits: dict[str, tuple[Packer | Wrapper, Spool]] = {}
        self._n_tokens: Counter[str] = Counter()

    def add(self, split: str, ids: np.ndarray) -> None:
        """Packs one document's token ids [n] into its split, and into `held_out` for a subset's."""
        self._n_tokens[split.partition(".")[0]] += len(ids)
        for name in dict.fromkeys((split.partition(".")[0], split)):
            packer, spool = self._split(name)
            spool.append(packer.add([ids]))

    @property
    def full(self) -> bool:
        """Whether the training sequences hold as many tokens as were asked for."""
        budget = self._settings.tokens
        n_tokens = len(self._split(TRAIN)[1]) * self._settings.context
        return budget is not None and n_tokens >= budget

    @property
    def left_over(self) -> int:
        """Tokens at the splits' ends that fill no sequence."""
        return sum(packer.left_over for packer, _ in self._splits.values())

    def warn_of_none_held_out(self, n_documents: int) -> None:
        """Says on stderr that a share was to be held out of the documents read, and no sequence
        is."""
        share = self._settings.held_out
        if share and not (HELD_OUT in self._splits and len(self._splits[HELD_OUT][1])):
            documents = "document" if n_documents == 1 else "documents"
            print(
                f"warning: held_out {share:g} of {n_documents:,} {documents} is "
                f"{self._n_tokens[HELD_OUT]:,} tokens, which fill no sequence, so there is nothing "
                f"to evaluate on; {MORE_DOCUMENTS}",
                file=sys.stderr,
            )

    def permuted(self) -> dict[str, Spool]:
        """The splits that hold a sequence, in permuted order.

        Raises:
            ValueError: there is no training sequence.
        """
        if not len(self._split(TRAIN)[1]):
            held = self._n_tokens[HELD_OUT]
            fewer = f" beside {held} held out; lower --held-out, {MORE_DOCUMENTS}, or "
            raise ValueError(
                f"text must fill at least one training sequence of {self._settings.context} "
                f"tokens, got {self._n_tokens[TRAIN]} tokens{fewer if held else '; '}"
                "pass more text or a smaller --context"
            )
        seed = self._settings.seed
        return {
            name: spool.permute(seed, name)
            for name, (_, spool) in sorted(self._splits.items())
            if len(spool)
        }

    def _split(self, name: str) -> tuple[Packer | Wrapper, Spool]:
        if name not in self._splits:
            if len(name) > _MAX_NAME:
                raise ValueError(
                    f"subset_field must give names of at most {_MAX_NAME - len(HELD_OUT) - 1} "
                    f"characters, got {name!r:.80}; choose a field that names subsets"
                )
            if len(self._splits) > _MAX_SUBSETS:
                raise ValueError(
                    f"subset_field must name at most {_MAX_SUBSETS} subsets, got more with "
                    f"{self._settings.subset_field!r}; choose a coarser field"
                )
            context = self._settings.context
            spool = self._stack.enter_context(Spool(context, self._scratch_dir))
            self._splits[name] = self._new_packer(), spool
        return self._splits[name]
