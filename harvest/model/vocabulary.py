"""The vocabulary: checks that a tokenizer is that of its files and its model, and of token ids.

Owns the checks of what transformers returns and of ids that users give, and a tokenizer's
fingerprint. If files are missing, transformers makes up a tokenizer without a warning; if a file is
not as it expects, it makes another one than the file's.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from ...foreign import one_line
from .files import TOKENIZER_FILES, explained

Ids = str | Sequence[int] | Sequence[Sequence[int]] | np.ndarray | Tensor
"""A text, or token ids [seq] or [batch, seq]."""

_IDS = "a text, or whole numbers [seq] or [batch, seq] with all rows of one length"
_PROBE = 'The 3 quick brown foxes, (x+1)*y: "jump"?\n\tReturn 10.5%  of it; isn\'t so!\n'
_WHOLE = (torch.int64, torch.int32, torch.int16, torch.uint8, torch.int8, torch.uint32)
_FEWEST = 0.5
"""Padded embeddings have a few rows more than the tokenizer has tokens, not twice as many."""


def checked_ids(text: Ids, tokenizer: Any, config: Any, model: str) -> Int64[Tensor, "batch seq"]:
    """A text's token ids with BOS, or the ids that are given, after checks that the model has them.

    Raises:
        ValueError: it is neither of the two, an id is outside the vocabulary, or there are more ids
            than the model's context takes.
    """
    given: Any = text
    if isinstance(text, str):
        begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        given = begin + tokenizer(text, add_special_tokens=False)["input_ids"]
    try:
        ids = torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError) as error:
        got = f"{type(given).__name__} ({one_line(error)})"
        raise ValueError(f"ids must be {_IDS}, got {got}") from None
    ids = ids[None] if ids.ndim == 1 else ids
    if ids.ndim != 2 or not ids.numel() or ids.dtype not in _WHOLE:
        raise ValueError(f"ids must be {_IDS}, got {ids.dtype} {list(ids.shape)}")
    ids = ids.to(torch.int64)  # torch compares no uint32, which token stores hold
    first, last, longest = int(ids.min()), int(ids.max()), config.max_position_embeddings
    if first < 0 or last >= config.vocab_size:
        raise ValueError(
            f"ids must be in 0 … {config.vocab_size - 1}, the vocabulary of {model}, got "
            f"{first} … {last}"
        )
    if ids.shape[1] > longest:
        raise ValueError(
            f"ids must be at most {longest:,} tokens, the context of {model}, got "
            f"{ids.shape[1]:,}; pass fewer"
        )
    return ids


def load_checked_tokenizer(folder: Path, name: str, config: Any) -> Any:
    """The tokenizer in a folder, after checks that it is that of its files and of the model.

    Raises:
        OSError: the folder holds none.
        ValueError: it is damaged, of another model, or does not give a text back.
    """
    if not any((folder / file).is_file() for file in TOKENIZER_FILES):
        raise FileNotFoundError(
            f"model folder {name} must hold its tokenizer ({' or '.join(TOKENIZER_FILES)}), got "
            "none; copy the tokenizer's files from where the model came from"
        )
    from transformers import AutoTokenizer

    with explained(name), _damage_named():
        tokenizer = AutoTokenizer.from_pretrained(
            folder, config=config, trust_remote_code=False, local_files_only=True
        )
        ids, text, known = _encoded(tokenizer)
    _check_special(name, tokenizer, config)
    _check_size(name, known, config)
    _check_text(name, tokenizer, ids, text)
    _check_file(folder, name, ids)
    return tokenizer


def _encoded(tokenizer: Any) -> tuple[list[int], str, dict[str, int]]:
    """The probe's ids, the text they give back, and the vocabulary."""
    ids = tokenizer.backend_tokenizer.encode(_PROBE, add_special_tokens=False).ids
    return ids, tokenizer.decode(ids, clean_up_tokenization_spaces=False), tokenizer.get_vocab()


def _check_special(name: str, tokenizer: Any, config: Any) -> None:
    """The special tokens must be the model's: ids of another tokenizer mean nothing to it."""
    for token in ("bos", "eos", "pad"):
        ours, theirs = getattr(tokenizer, f"{token}_token_id"), getattr(config, f"{token}_token_id")
        known = theirs if isinstance(theirs, list) else [theirs]
        if ours is None or (theirs is not None and ours not in known):
            raise ValueError(
                f"tokenizer and model of {name} must agree on the {token} token, "
                f"got {ours} and {theirs}; use the folder both came in"
            )


def _check_size(name: str, known: dict[str, int], config: Any) -> None:
    """Every id must have an embedding, and most embeddings an id."""
    n, largest = config.vocab_size, max(known.values(), default=-1)
    if largest >= n:
        raise ValueError(
            f"tokenizer of {name} must have at most the model's {n} tokens, "
            f"got ids up to {largest}; use the tokenizer that came with the model"
        )
    if len(known) < _FEWEST * n:
        raise ValueError(
            f"tokenizer of {name} must have about the model's {n} tokens, got {len(known)}; "
            "use the tokenizer that came with the model"
        )


def _check_text(name: str, tokenizer: Any, ids: list[int], text: str) -> None:
    """Plain English must survive the way to ids and back, the same way every time."""
    if getattr(tokenizer.backend_tokenizer.model, "dropout", None):
        raise ValueError(
            f"tokenizer of {name} must give a text the same ids every time, got one with dropout; "
            "set it to null in tokenizer.json"
        )
    unknown = ids.count(tokenizer.unk_token_id) if tokenizer.unk_token_id is not None else 0
    if text != _PROBE or unknown or tokenizer.bos_token_id in ids:
        raise ValueError(
            f"tokenizer of {name} must give {_PROBE!r} back, got {text[:80]!r} by {len(ids)} ids, "
            f"{unknown} of them unknown; use the tokenizer that came with the model"
        )


def _check_file(folder: Path, name: str, ids: list[int]) -> None:
    """transformers builds some tokenizers again; their ids must be those of tokenizer.json."""
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        return
    with explained(name), _damage_named():
        own = Tokenizer.from_file(str(path)).encode(_PROBE, add_special_tokens=False).ids
    if own != ids:
        raise ValueError(
            f"tokenizer of {name} must be that of {path}, got another one from transformers "
            f"({len(own)} ids of a text become {len(ids)}); save both again with "
            "tokenizer.save_pretrained, tokenizer_config.json included"
        )


@contextmanager
def _damage_named() -> Iterator[None]:
    """tokenizers raises a bare Exception, or panics, and a panic of Rust code is no Exception."""
    try:
        yield
    except BaseException as error:
        if type(error) is Exception or type(error).__name__ == "PanicException":
            raise ValueError(
                "tokenizer.json is damaged, or tokenizer_config.json belongs to another "
                f"({one_line(error)})"
            ) from error
        raise


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Identifies a tokenizer: 16 hex digits over its whole definition (vocabulary, merges,
    normalisation).
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    # How the last call padded or truncated is not part of the tokenizer.
    state["padding"] = state["truncation"] = None
    text = json.dumps(state, sort_keys=True)
    return hashlib.blake2b(text.encode("utf-8"), digest_size=8).hexdigest()


def check_context(context: int, config: Any, model: str) -> None:
    """Raises ValueError if sequences of `context` tokens are longer than the model takes."""
    longest = config.max_position_embeddings
    if context > longest:
        raise ValueError(
            f"context must be at most {longest} for model {model}, got {context}; take fewer tokens"
        )
