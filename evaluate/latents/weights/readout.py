"""From the residual stream to the logits: the final norm's gain, the unembedding, the tokens.

Owns which output tokens are never listed, and tokens' texts. The model itself is never loaded: the
few tensors are read from its files, the unembedding a block at a time.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from ....harvest.model.families import Family, family_of
from ....harvest.model.loading import load_tokenizer
from ....harvest.model.tensors import Tensors

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_UNUSED = re.compile(r"<unused\d+>|\[unused\d+\]|<\|?reserved_\w+\|?>|<extra_id_\d+>")
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_BROKEN = "\N{REPLACEMENT CHARACTER}"

KINDS = ("special", "unused", "byte", "empty", "beyond the tokenizer")
"""Kinds of output token that are never listed; a token has the first kind that fits."""


@dataclass(frozen=True)
class Readout:
    """What turns a vector of the residual stream into effects on logits.

    The effect of a row w on token t's logit is Σ_d w[d] · gain[d] · W_U[t, d]. Two things are left
    out: the final norm's scale, which depends on the whole stream, and the soft-cap of the logits,
    which does not change their order.
    """

    name: str
    """The model's folder or hub id."""
    config: Any
    """transformers' configuration."""
    tokenizer: "PreTrainedTokenizerBase"
    tensors: Tensors

    @property
    def family(self) -> Family:
        """The model's family."""
        return family_of(self.config)

    @property
    def n_tokens(self) -> int:
        """Rows of the unembedding."""
        return self.config.vocab_size

    @cached_property
    def gain(self) -> Float[Tensor, " d_model"]:
        """The final norm's gain."""
        return self.gain_of(f"model.{self.family.final_norm}")

    def gain_of(self, norm: str) -> Float[Tensor, " d_model"]:
        """A norm's gain: what it multiplies the normalised vector by."""
        return self.family.gain(self.tensors.read(f"{norm}.weight"))

    def unembedding(self, start: int, stop: int) -> Float[Tensor, "tokens d_model"]:
        """Rows [start, stop) of W_U, which may be the embedding."""
        tied = self.config.tie_word_embeddings or "lm_head.weight" not in self.tensors
        name = "model.embed_tokens.weight" if tied else "lm_head.weight"
        return self.tensors.read(name, start, stop)

    @cached_property
    def kinds(self) -> Int[np.ndarray, " n_tokens"]:
        """For every output token its index in `KINDS`, or -1 if it may be listed."""
        known = {i: name for name, i in self.tokenizer.get_vocab().items()}
        special = set(self.tokenizer.all_special_ids)
        added = self.tokenizer.added_tokens_decoder
        special |= {i for i, token in added.items() if token.special}
        texts = dict(zip(known, self.texts(list(known)), strict=True))
        kinds = np.full(self.n_tokens, KINDS.index("beyond the tokenizer"))
        for i, name in known.items():
            kinds[i] = -1 if (kind := _kind(name, texts[i], i in special)) is None else kind
        return kinds

    @property
    def masked(self) -> dict[str, int]:
        """Kind of token that is never listed -> how many there are."""
        counts = {name: int((self.kinds == i).sum()) for i, name in enumerate(KINDS)}
        return {name: n for name, n in counts.items() if n}

    def texts(self, ids: Sequence[int]) -> list[str]:
        """Text of each token by itself.

        The bytes of a token that is a part of a character are surrogates (Python's
        `surrogateescape`), so that the parts can be joined to the character.
        """
        backend: Any = self.tokenizer.backend_tokenizer
        names = self.tokenizer.convert_ids_to_tokens(list(ids))
        texts = backend.decode_batch([[i] for i in ids], skip_special_tokens=False)
        return [
            _of_bytes(name, text) if _BROKEN in text or _BYTE.fullmatch(name or "") else text
            for text, name in zip(texts, names, strict=True)
        ]


def read_readout(model: str) -> Readout:
    """The readout of a model in a local folder or on the hub.

    Raises:
        OSError, ValueError: as `load_tokenizer` and `Tensors`.
    """
    tokenizer, config = load_tokenizer(model)
    return Readout(model, config, tokenizer, Tensors(model, config))


def _kind(name: str, text: str, special: bool) -> int | None:
    """Index in `KINDS` of the first kind that fits a token; None if none does."""
    fits = {
        "special": special,
        "unused": _UNUSED.fullmatch(name) is not None,
        "byte": _BYTE.fullmatch(name) is not None or any("\udc80" <= c <= "\udcff" for c in text),
        "empty": text == "",
    }
    return next((KINDS.index(kind) for kind, true in fits.items() if true), None)


def _of_bytes(name: str | None, text: str) -> str:
    """Text of a byte token, or of a token of a byte-level vocabulary."""
    if name is None:
        return text
    if byte := _BYTE.fullmatch(name):
        return bytes([int(byte[1], 16)]).decode("utf-8", "surrogateescape")
    letters = _byte_letters()
    if not all(letter in letters for letter in name):
        return text
    return bytes(letters[letter] for letter in name).decode("utf-8", "surrogateescape")


def _byte_letters() -> dict[str, int]:
    """Letter -> byte in a byte-level vocabulary.

    A printable character of Latin-1 stands for its own byte. The letters from U+0100 on stand for
    the other bytes, in order.
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(moved)}
