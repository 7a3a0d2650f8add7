"""A language model for tests: an OpenAI-compatible server whose answers come from a rule.

It counts what it is asked, and can fail, stall, drip and refuse.
"""

import json
import re
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from scopeworks.evaluate.latents.explain.asking.request import Messages, Request

_DRIP = 8
"""Characters of a piece of an answer that drips."""

Rule = Callable[[str], str]
"""The user's message -> an answer."""


class LanguageServer:
    """Serves on 127.0.0.1 while its block runs.

    Attributes:
        answered: key of a request -> how often it was answered with 200.
        n_failed: requests that were made to fail or stall.
    """

    def __init__(
        self,
        rule: Rule,
        fail_every: int = 0,
        stall_s: float = 0.0,
        key: str | None = None,
        drip_s: float = 0.0,
    ):
        self.rule, self.key = rule, key
        self.answered: Counter[str] = Counter()
        self.n_failed = self.seen = self.most_at_once = self._now = 0
        self._fail_every, self._stall_s, self._drip_s = fail_every, stall_s, drip_s
        self._lock, self._ended = threading.Lock(), threading.Event()
        self.refuse: tuple[int, str, dict[str, str]] | None = None
        """Status, body and headers that everything is answered with."""

    def __enter__(self) -> "LanguageServer":
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize, disable_nagle_algorithm = -1, True  # an answer in one piece, at once

            def do_POST(self) -> None:
                outer._serve(self)

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                """Clients may be killed."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """For --endpoint."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self._lock:
            self.seen += 1
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            fails = self._fail_every and self.seen % self._fail_every == 0
            self.n_failed += bool(fails)
            stalls = fails and self._stall_s and self.n_failed % 2
        try:
            if self.key and handler.headers["Authorization"] != f"Bearer {self.key}":
                _send(handler, 401, "no key")
            elif self.refuse is not None:
                _send(handler, *self.refuse)
            elif stalls:
                self._ended.wait(self._stall_s)
                _send(handler, 503, "stalled")
            elif fails:
                _send(handler, 503, "busy", {"Retry-After": "0"})
            else:
                self._answer(handler, body)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with self._lock:
                self._now -= 1

    def _answer(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        messages: Messages = tuple((m["role"], m["content"]) for m in body["messages"])
        request = Request(
            body["model"], messages, body["temperature"], body["max_tokens"], body["seed"]
        )
        with self._lock:
            self.answered[request.key] += 1
        text = self.rule(messages[-1][1])
        usage = {"prompt_tokens": 7, "completion_tokens": 3}
        message = {"choices": [{"message": {"role": "assistant", "content": text}}]}
        data = json.dumps(message | {"usage": usage})
        step = _DRIP if self._drip_s else len(data)
        _send(handler, 200, data[:step], {"Content-Length": str(len(data))})
        for start in range(step, len(data), step):
            handler.wfile.flush()
            self._ended.wait(self._drip_s)
            handler.wfile.write(data[start : start + step].encode())


def _send(
    handler: BaseHTTPRequestHandler, status: int, body: str, headers: dict[str, str] | None = None
) -> None:
    data = body.encode()
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(data)


_STRENGTH = re.compile(r"'((?:[^']|'(?!,? ?\d))*)' (\d+)(?:, |$)")
MOST_TOKENS = 30


def oracle(message: str) -> str:
    """Explains by the tokens at which a latent fires, strongest sums first, and judges by whether
    one of them is there."""
    if "Strengths:" in message:
        sums: Counter[str] = Counter()
        for line in message.splitlines():
            if line.startswith("Strengths: "):
                for token, strength in _STRENGTH.findall(line.removeprefix("Strengths: ")):
                    sums[token] += int(strength)
        return "tokens " + json.dumps([token for token, _ in sums.most_common(MOST_TOKENS)])
    told = re.search(r"^Description: .*?(\[.*\])$", message, re.M)
    tokens = json.loads(told[1]) if told else []
    if re.search(r"^1 '", message, re.M):
        words = re.findall(r"^\d+ '(.*)'$", message, re.M)
        return json.dumps([10 * (word in tokens) for word in words])
    pieces = re.split(r"^Piece \d+: ", message, flags=re.M)[1:]
    judged = [_holds(piece.rstrip("\n"), tokens) for piece in pieces]
    return f"Let me see [0, 1, 0]. So: {json.dumps(judged)}"


def _holds(piece: str, tokens: list[str]) -> int:
    """Whether a piece, or what is marked in it, holds one of the tokens."""
    marked = re.findall(r"<<(.*?)>>", piece)
    return int(any(token in text for token in tokens for text in marked or [piece]))
