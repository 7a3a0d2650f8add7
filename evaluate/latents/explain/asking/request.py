"""What a language model is asked, by content: the same question is the same request.

Owns requests, their keys and answers, and what a language model is to us.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Protocol

Messages = tuple[tuple[str, str], ...]
"""(role, text) of every message; roles are system and user."""


@dataclass(frozen=True)
class Request:
    """One question with all that decides its answer."""

    model: str
    messages: Messages
    temperature: float
    most_tokens: int
    """Of the answer."""
    seed: int

    def content(self) -> dict[str, Any]:
        """As OpenAI's chat completions take it."""
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
    """What came back."""

    text: str
    tokens_in: int | None = None
    tokens_out: int | None = None


class Answerer(Protocol):
    """Where requests are answered."""

    name: str
    """Part of every request: another name, other answers."""
    parallel: int
    """Requests that it takes at a time."""

    def answer(self, request: Request) -> Answer:
        """Answers one request; ValueError or OSError in one line where it cannot."""
        ...

    def stop(self) -> None:
        """Ends waiting between tries: the run is over."""
        ...

    def close(self) -> None:
        """Gives back what it holds."""
        ...


class NonsenseError(ValueError):
    """An answer that is none of what was asked for."""
