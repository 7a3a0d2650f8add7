"""The rating page's application, for one rater.

Owns the addresses and the requests that they accept. It sends latents' numbers, cards and the
rater's own answers. It never sends names, sites, widths or files of SAEs.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....foreign import one_line, read_document
from ..explorer import static_page as explorer_page
from .answers import AnswerChange, AnswerFile

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

_STATIC = Path(__file__).parent / "static"
FILES = {
    "/": _STATIC / "index.html",
    "/dom.js": explorer_page.STATIC / "app" / "dom.js",
    "/rate.js": _STATIC / "rate.js",
    "/rate.css": _STATIC / "rate.css",
}
"""Address -> file; dom.js is the explorer's, so tokens look the same on both pages."""
HOSTS = ("127.0.0.1", "localhost")
MOST_BYTES = 20_000
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


class _Pages:
    """Answers the page's requests."""

    def __init__(
        self, rater: str, order: list[str], kept: AnswerFile, card_of: Callable[[str], Any]
    ):
        self._rater, self._order, self._kept, self._card_of = rater, order, kept, card_of

    async def file(self, request: "Request") -> "Response":
        """A file of the page."""
        from starlette.responses import FileResponse

        return FileResponse(FILES[request.url.path], headers=_HEADERS)

    async def session(self, _request: "Request") -> "Response":
        """The rater's order and the answers so far."""
        entries = {number: vars(entry) for number, entry in self._kept.entries.items()}
        return _json({"rater": self._rater, "order": self._order, "entries": entries})

    async def latent(self, request: "Request") -> "Response":
        """What is shown of a latent."""
        number = request.path_params["number"]
        if number not in self._order:
            return _json({"error": f"no latent {number[:20]}"}, 404)
        try:
            return _json(self._card_of(number))
        except (ValueError, OSError, KeyError):  # the error's text would name the index
            return _json({"error": "this latent cannot be read from its index; go on"}, 500)

    async def answer(self, request: "Request") -> "Response":
        """Keeps a rater's answer; replies once it is on the disk."""
        if request.headers.get("content-type", "").split(";")[0] != "application/json":
            return _json({"error": "an answer must be application/json"}, 415)
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MOST_BYTES:
                return _json({"error": "an answer must be shorter"}, 413)
        try:
            entry = self._kept.add(read_document(AnswerChange, body, "answer"))
        except KeyError:
            return _json({"error": "no such latent"}, 404)
        except ValueError as error:
            return _json({"error": one_line(error)}, 400)
        except OSError as error:
            return _json({"error": f"not kept: {error.strerror or one_line(error)}"}, 507)
        return _json(vars(entry))


def application(
    rater: str, order: list[str], kept: AnswerFile, card_of: Callable[[str], Any]
) -> "Starlette":
    """The page of one rater.

    Args:
        order: latents' numbers, in the rater's order.
        kept: the rater's answers.
        card_of: latent's number -> what the page shows of it.
    """
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.routing import Route

    pages = _Pages(rater, order, kept, card_of)
    routes = [Route(path, pages.file) for path in FILES]
    routes += [
        Route("/session", pages.session),
        Route("/latents/{number}", pages.latent),
        Route("/answers", pages.answer, methods=["POST"]),
    ]
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS))
    return Starlette(routes=routes, middleware=[hosts])


def _json(value: Any, status: int = 200) -> "Response":
    """JSON that no cache keeps."""
    from starlette.responses import JSONResponse

    return JSONResponse(value, status, headers=_HEADERS)
