"""Chat: documents as the user's turn of a conversation, in the tokenizer's own chat template.

Owns the use of the template: every document goes through it, so its token ids are those of the
tokenizer's `apply_chat_template`. One thing differs: a special token that a document spells out
stays text. `packing` makes sequences of the turns.
"""

import hashlib
import json
from typing import Any

import numpy as np

from ...foreign import one_line
from ..model.vocabulary import tokenizer_fingerprint
from ..text.file_formats import Bad, TextDocument
from .encoding import token_ids

_PROBE = "the text"


class ChatTemplate:
    """A tokenizer's chat template around a text.

    Attributes:
        prefix: token ids before a text, BOS among them; they give no row.
        suffix: token ids after it, up to where the model would answer.
        end_of_turn: the token that ends a turn: the first special one after a text, None if there
            is none.
    """

    def __init__(self, tokenizer: Any):
        """Tries the template.

        Raises:
            ValueError: the tokenizer has no chat template, or one that fails or changes a text.
        """
        if not tokenizer.chat_template:
            raise ValueError(
                "packing chat must have a tokenizer with a chat template, got one without; pass an "
                "instruction-tuned model"
            )
        self._tokenizer = tokenizer
        try:
            turn = self._turn(_PROBE)
        except Exception as error:
            raise ValueError(f"chat template cannot be used: {_told(error)}") from error
        if turn.count(_PROBE) != 1:
            raise ValueError(f"chat template must hold the text once as it is, got {turn!r}")
        self._before, self._after = turn.split(_PROBE)
        self._special_before, self._joined_before = self._split_before()
        self._special_after, self._joined_after = self._split_after()
        before, after = token_ids(tokenizer, [self._joined_before, self._joined_after])
        self.prefix = [*self._special_before, *before.tolist()]
        self.suffix = [*after.tolist(), *self._special_after]
        self.end_of_turn = self._special_after[0] if self._special_after else None
        self._check(turn)

    def token_ids(self, documents: list[TextDocument]) -> list[np.ndarray | Bad]:
        """Every document's token ids, uint32 [n], with the template's around them; or a `Bad` for
        one that the template refuses or changes."""
        bodies = [self._body(document) for document in documents]
        fine = [body for body in bodies if isinstance(body, str)]
        joined = [f"{self._joined_before}{body}{self._joined_after}" for body in fine]
        encoded = iter(token_ids(self._tokenizer, joined))
        return [
            self._with_special(next(encoded)) if isinstance(body, str) else body for body in bodies
        ]

    def _turn(self, text: str) -> str:
        return self._tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
        )

    def _body(self, document: TextDocument) -> str | Bad:
        """A document's text as the template shows it (most templates trim)."""
        try:
            turn = self._turn(document.text)
        except Exception as error:  # a template may raise anything
            message = f"text {document.name} is refused by the chat template: {_told(error)}"
            return Bad("refused by the chat template", message)
        n_letters = len(turn) - len(self._before) - len(self._after)
        if n_letters <= 0 or not (turn.startswith(self._before) and turn.endswith(self._after)):
            message = (
                f"text {document.name} must stand between the chat template's {self._before!r} and "
                f"{self._after!r}, got {turn!r:.80}"
            )
            return Bad("changed by the chat template", message)
        return turn[len(self._before) : len(self._before) + n_letters]

    def _split_before(self) -> tuple[list[int], str]:
        """The ids up to the last special token before a text, and the template's text after it.

        That text is tokenized with the document's: a token may span both, but no special one.
        """
        ids, ends, special = self._encoded(self._before, 1)
        last = max((i for i, one in enumerate(ids) if one in special), default=-1)
        bos = self._tokenizer.bos_token_id
        missing = [bos] if ids[:1] != [bos] else []
        return [*missing, *ids[: last + 1]], self._before[ends[last] if last >= 0 else 0 :]

    def _split_after(self) -> tuple[list[int], str]:
        """The ids from the first special token after a text, and the template's text before it."""
        ids, starts, special = self._encoded(self._after, 0)
        first = next((i for i, one in enumerate(ids) if one in special), None)
        return ([], self._after) if first is None else (ids[first:], self._after[: starts[first]])

    def _encoded(self, text: str, side: int) -> tuple[list[int], list[int], set[int]]:
        """(ids, where each begins (side 0) or ends (side 1) in the text, all special ids)."""
        encoding = self._tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
        added = self._tokenizer.added_tokens_decoder
        special = {number for number, token in added.items() if token.special}
        return encoding.ids, [offsets[side] for offsets in encoding.offsets], special

    def _with_special(self, ids: np.ndarray) -> np.ndarray:
        parts = (self._special_before, ids, self._special_after)
        return np.concatenate([np.asarray(part, dtype=np.uint32) for part in parts])

    def _check(self, turn: str) -> None:
        """Compares the ids of a turn with those that the tokenizer gives itself."""
        own = self._tokenizer(turn, add_special_tokens=False, verbose=False)["input_ids"]
        (ours,) = self.token_ids([TextDocument("probe", _PROBE)])
        if isinstance(ours, Bad) or ours.tolist()[-len(own) :] != own:
            raise ValueError(
                f"chat template must give the tokenizer's own ids for {turn!r}, got others; pass "
                "another model, or --packing document"
            )


def identity_of(tokenizer: Any, packing: str) -> str:
    """What decides a document's ids: the tokenizer's fingerprint, for packing chat also its chat
    template's."""
    fingerprint = tokenizer_fingerprint(tokenizer)
    return f"{fingerprint}+{template_fingerprint(tokenizer)}" if packing == "chat" else fingerprint


def template_fingerprint(tokenizer: Any) -> str:
    """Identifies a chat template: 16 hex digits."""
    text = json.dumps(tokenizer.chat_template, sort_keys=True).encode("utf-8")
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error)}"
