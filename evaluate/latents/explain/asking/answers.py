"""Kept answers: one file for each, named by the key of its request.

Owns the files in `explanations/answers/`. A file is written whole and never changed, and its
checksum shows whether it is damaged.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from .....foreign import Document, read_document
from .....store.place.files import write_file
from .request import Answer, Request


class _Kept(Document):
    request: dict[str, Any]
    answer: str
    tokens_in: int | None
    tokens_out: int | None
    checksum: str


class Answers:
    """The answers in a folder."""

    def __init__(self, folder: Path):
        self._folder = folder

    def get(self, request: Request) -> Answer | None:
        """The kept answer to a request; None if there is none.

        Raises:
            ValueError: its file is damaged, or holds the answer to another request.
        """
        path = self._path(request)
        if not path.is_file():
            return None
        again = f"{path} is damaged; remove it, and the question is asked again"
        try:
            kept = read_document(_Kept, path.read_bytes(), str(path))
        except ValueError as error:
            raise ValueError(again) from error
        answer = Answer(kept.answer, kept.tokens_in, kept.tokens_out)
        if kept.checksum != _checksum(kept.request, answer) or kept.request != request.content():
            raise ValueError(again)
        return answer

    def put(self, request: Request, answer: Answer) -> None:
        """Writes an answer to disk."""
        content = request.content()
        value = {
            "request": content,
            "answer": answer.text,
            "tokens_in": answer.tokens_in,
            "tokens_out": answer.tokens_out,
            "checksum": _checksum(content, answer),
        }
        data = json.dumps(value, ensure_ascii=True, indent=1) + "\n"
        write_file(self._path(request), data.encode())

    def _path(self, request: Request) -> Path:
        key = request.key
        return self._folder / key[:2] / f"{key}.json"


def _checksum(request: dict[str, Any], answer: Answer) -> str:
    """16 hexadecimal digits over a request and its answer."""
    value = [request, answer.text, answer.tokens_in, answer.tokens_out]
    text = json.dumps(value, sort_keys=True, ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
