"""A language model on this machine, by transformers.

Owns how a chat becomes a prompt and how an answer is drawn. Takes one request at a time.
"""

import hashlib
import threading
from typing import Any

import torch

from .....foreign import one_line
from .....harvest.model.loading import quiet
from .....machine import find_device, good_dtype
from .request import Answer, Request

_SAMPLED = 1024
"""Values of each weight that the fingerprint reads."""


class LocalModel:
    """A transformers model; see `request.Answerer`."""

    parallel = 1

    def __init__(self, path: str):
        self._tokenizer, self._model = _loaded(path)
        self.name = f"{path.rstrip('/').rsplit('/', 1)[-1]}@{_fingerprint(self._model)}"
        self._lock = threading.Lock()

    def answer(self, request: Request) -> Answer:
        """Answers greedily at temperature 0, or else draws with the request's seed.

        Raises:
            ValueError: the prompt is longer than the model takes.
        """
        ids = self._prompt(request)
        longest = getattr(self._model.config, "max_position_embeddings", None)
        if longest is not None and ids.shape[1] + 1 > longest:
            raise ValueError(
                f"llm_model must take a prompt of {ids.shape[1]:,} tokens, got one that takes "
                f"{longest:,}; ask another model, or show fewer or shorter contexts"
            )
        most = request.most_tokens if longest is None else longest - ids.shape[1]
        drawn = {"do_sample": True, "temperature": request.temperature}
        with self._lock, torch.no_grad():
            torch.manual_seed(request.seed)
            out = self._model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=min(request.most_tokens, most),
                pad_token_id=self._tokenizer.pad_token_id or self._tokenizer.eos_token_id or 0,
                **(drawn if request.temperature else {"do_sample": False}),
            )
        answer = out[0, ids.shape[1] :]
        text = self._tokenizer.decode(answer, skip_special_tokens=True)
        return Answer(str(text), ids.shape[1], len(answer))

    def count(self, text: str) -> int:
        """Tokens of a text."""
        ids = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return len(ids)

    def stop(self) -> None:
        """Does nothing: there are no waits between tries."""

    def close(self) -> None:
        """Does nothing: there is no connection to close."""

    def _prompt(self, request: Request) -> torch.Tensor:
        """Token ids [1, n] of all messages, as one user turn if the model has a chat template."""
        # One turn of the user's, because some templates have no system message.
        text = "\n\n".join(text for _, text in request.messages)
        if getattr(self._tokenizer, "chat_template", None):
            found = self._tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
            )
            ids = self._tokenizer(
                found, add_special_tokens=False, return_tensors="pt", verbose=False
            )
        else:
            ids = self._tokenizer(text + "\n\n", return_tensors="pt", verbose=False)
        return ids["input_ids"].to(self._model.device)


def _loaded(path: str) -> tuple[Any, Any]:
    """(tokenizer, model); raises ValueError in one line."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    device = find_device("auto")
    dtype = getattr(torch, good_dtype(device.type))
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(path)
            model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
    except Exception as error:  # transformers' errors have no common base
        raise ValueError(
            f"llm_model must be a folder or hub id of a causal language model, got {path}: "
            f"{one_line(error)}"
        ) from error
    return tokenizer, torch.nn.Module.to(model, device).eval()


def _fingerprint(model: torch.nn.Module) -> str:
    """8 hexadecimal digits over an even sample of the weights; part of the key of every answer."""
    digest = hashlib.blake2b(digest_size=4)
    for name, tensor in model.named_parameters():
        flat = tensor.detach().reshape(-1)
        sample = flat[:: max(1, len(flat) // _SAMPLED)].float().cpu()
        digest.update(name.encode() + sample.numpy().tobytes())
    return digest.hexdigest()
