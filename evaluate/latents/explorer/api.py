"""The playground's requests over HTTP: JSON in, JSON out, one at a time.

Owns which requests are accepted and what an error looks like. A page of another site can make a
browser send a request here. So a request is refused if its `Origin` is missing or another server's.
It is also refused if its content type is not JSON, because a form of another site cannot send JSON.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ....foreign import Document, one_line, read_document
from .playground import AskedText, AskedTokens, Playground

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from .serving import App

MOST_BYTES = 2**16
MOST_WAITING = 8


def playground_api(playground: Playground, lock: asyncio.Lock | None = None) -> "App":
    """An application that answers POST /tokens and POST /continue.

    Args:
        lock: shared by all playgrounds of one model; by default a new lock.
    """
    from starlette.applications import Starlette
    from starlette.routing import Route

    queue = _Queue(lock)
    return Starlette(
        routes=[
            Route("/tokens", queue.answering(AskedTokens, playground.tokens), methods=["POST"]),
            Route("/continue", queue.answering(AskedText, playground.text), methods=["POST"]),
        ]
    )


class _Queue:
    """Answers one request at a time, in a worker thread; at most `MOST_WAITING` are accepted."""

    def __init__(self, lock: asyncio.Lock | None):
        self._lock, self._waiting = lock or asyncio.Lock(), 0

    def answering(self, kind: type[Document], work: Callable[[Any], dict[str, Any]]) -> Any:
        """An endpoint that reads a `kind` and answers with what `work` returns for it."""

        async def answer(request: "Request") -> "Response":
            body = await _body(request)
            if not isinstance(body, bytes):
                return body
            try:
                asked = read_document(kind, body, "the request")
            except ValueError as error:
                return _error(400, one_line(error))
            return await self._done(work, asked)

        return answer

    async def _done(self, work: Callable[[Any], dict[str, Any]], asked: Document) -> "Response":
        from starlette.concurrency import run_in_threadpool
        from starlette.responses import JSONResponse

        if self._waiting >= MOST_WAITING:
            return _error(503, "the model is busy; try again in a moment")
        self._waiting += 1
        try:
            async with self._lock:
                found = await run_in_threadpool(work, asked)
        except (ValueError, RuntimeError) as error:  # RuntimeError: out of memory
            return _error(400 if isinstance(error, ValueError) else 500, one_line(error))
        finally:
            self._waiting -= 1
        return JSONResponse(found, headers={"cache-control": "no-store"})


async def _body(request: "Request") -> "bytes | Response":
    """A request's bytes, or the answer that refuses it."""
    host = request.headers.get("host", "")
    if request.headers.get("origin") != f"{request.url.scheme}://{host}":
        return _error(403, "only the page of this server may ask: Origin is another, or missing")
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
        return _error(415, "content-type must be application/json")
    found = b""
    async for part in request.stream():
        found += part
        if len(found) > MOST_BYTES:
            return _error(413, f"a request must have at most {MOST_BYTES:,} bytes")
    return found


def _error(status: int, text: str) -> "Response":
    """An error as JSON; the page shows its text."""
    from starlette.responses import JSONResponse

    return JSONResponse({"error": text}, status, headers={"cache-control": "no-store"})
