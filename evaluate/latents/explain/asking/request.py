"""Requests to a language model, identified by their content: equal questions are one request.

Owns requests, their keys and answers, and the interface of a language model.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Protocol

Messages = tuple[tuple[str, str], ...]
"""(role, text) of every message; roles are system and user."""


@dataclass(frozen=True)
class Request:
    """One question, with everything that decides its answer."""

    model: str
    messages: Messages
    temperature: float
    most_tokens: int
    """Most tokens of the answer."""
    seed: int

    def content(self) -> dict[str, Any]:
        """The body of a request to OpenAI's chat completions."""
        return {
            "model": self.model,
            "messages": [{"role": role, "content": text} for role, text in self.messages],
            "temperature": self.temperature,
            "max_tokens": self.most_tokens,
            "seed": self.seed,
        }

    @property
    def key(self) -> str:
        """32 hexadecimal digits over its content."""
        text = json.dumps(self.content(), sort_keys=True, ensure_ascii=False)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Answer:
    """An answer's text, and the token counts of prompt and answer if the model gives them."""

    text: str
    tokens_in: int | None = None
    tokens_out: int | None = None


class Answerer(Protocol):
    """A language model that answers requests."""

    name: str
    """Name of the model; part of every request's key."""
    parallel: int
    """Number of requests that it takes at a time."""

    def answer(self, request: Request) -> Answer:
        """Answers one request; raises ValueError or OSError in one line."""
        ...

    def stop(self) -> None:
        """Ends the waiting between tries, because the run has ended."""
        ...

    def close(self) -> None:
        """Closes connections and frees memory."""
        ...


class NonsenseError(ValueError):
    """An answer that is not in the form that was asked for."""
