"""The server's application: the indexes' files, a start page, and the headers of every answer.

Owns addresses, headers and the hosts that a request may name. `api` owns the playground's requests.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from html import escape
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from .folders import SHOWN, Served
from .static_page import EXPLANATIONS, page_files

if TYPE_CHECKING:
    from starlette.responses import Response

App = Callable[[Any, Any, Any], Awaitable[None]]

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1", "[::1]")

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}
"""`no-cache`: the browser asks each time, because an index may be made again in its folder."""

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
}
"""Content types by suffix. A machine's own table may give a script another type."""


def application(
    served: Sequence[Served],
    hosts: Sequence[str] | None = LOOPBACK_HOSTS,
    apis: Mapping[str, App] | None = None,
) -> App:
    """The indexes under /NAME/, and a start page that lists them.

    Args:
        hosts: names of this server that a request's Host header may give; None for any. Without
            this check another site could point its own name at this server and read everything
            (DNS rebinding).
        apis: an index's name -> its playground's requests, served under /NAME/api/.
    """
    from starlette.applications import Starlette
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.routing import Mount, Route

    apis = apis or {}
    start = page_files()["app/style.css"]
    routes: list[Any] = [Route("/", _Start(served).answer), Route("/style.css", _css(start))]
    for one in served:
        if one.name in apis:
            routes.append(Mount(f"/{one.name}/api", app=apis[one.name]))
        routes.append(Mount(f"/{one.name}", app=IndexFiles(one, served, one.name in apis)))
    app: App = Starlette(routes=routes)
    if hosts is not None:
        app = TrustedHostMiddleware(app, allowed_hosts=list(hosts), www_redirect=False)
    return _with_headers(app)


class IndexFiles:
    """The files of one index.

    starlette's `StaticFiles` answers byte ranges and conditional requests. It refuses paths that
    leave the folder, also by a symbolic link.
    """

    def __init__(self, one: Served, served: Sequence[Served], playground: bool):
        from starlette.staticfiles import StaticFiles

        self._folder, self._files = one.folder, StaticFiles(directory=one.folder.resolve())
        self._own = page_files()
        saes = [(each.name, each.index.manifest.sae) for each in served]
        beside = [
            {"folder": folder, "name": sae.name, "fingerprint": sae.fingerprint}
            for folder, sae in saes
        ]
        said = json.dumps({"beside": beside, "playground": playground}).replace("<", "\\u003c")
        self._own["served.js"] = f"scopeworks.served({said});\n".encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """The file of a request's path."""
        from starlette.responses import PlainTextResponse

        path = scope["path"].removeprefix(scope.get("root_path", "")).lstrip("/")
        answer: Any = PlainTextResponse("method not allowed", 405, {"allow": "GET, HEAD"})
        if scope["method"] in ("GET", "HEAD"):
            answer = await self._file(path or "index.html", scope)
        await answer(scope, receive, send)

    async def _file(self, name: str, scope: Any) -> "Response":
        from starlette.exceptions import HTTPException
        from starlette.responses import PlainTextResponse, Response

        parts = PurePosixPath(name).parts
        if name in self._own and not self._kept(name):
            return Response(self._own[name], media_type=_TYPES[PurePosixPath(name).suffix])
        if not parts or parts[0] not in SHOWN or ".." in parts:
            return PlainTextResponse("not found", 404)
        try:
            found = await self._files.get_response("/".join(parts), scope)
        except (HTTPException, OSError):
            return PlainTextResponse("not found", 404)
        if kind := _TYPES.get(PurePosixPath(name).suffix):
            found.headers["content-type"] = kind
        return found

    def _kept(self, name: str) -> bool:
        """Whether the index's own file is served, not the page's: only its explanations are."""
        return name == EXPLANATIONS and (self._folder / EXPLANATIONS).is_file()


class _Start:
    """The page that lists the indexes; with one index it leads straight to that index."""

    def __init__(self, served: Sequence[Served]):
        self._served = served

    async def answer(self, _request: Any) -> "Response":
        from starlette.responses import HTMLResponse, RedirectResponse

        if len(self._served) == 1:
            return RedirectResponse(f"/{quote(self._served[0].name)}/")
        items = "".join(_item(one) for one in self._served)
        return HTMLResponse(
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Latents</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<link rel="icon" href="data:,"><link rel="stylesheet" href="style.css"></head><body>'
            f'<main class="start"><h1>Latents</h1><ul class="indexes">{items}</ul></main></body>'
            "</html>"
        )


def _item(one: Served) -> str:
    """An index on the start page."""
    facts, sae = one.index.manifest, one.index.manifest.sae
    way = sae.site if sae.target_site in (None, sae.site) else f"{sae.site} → {sae.target_site}"
    return (
        f'<li><a href="{escape(quote(one.name), quote=True)}/"><b>{escape(sae.name)}</b></a> '
        f'<span class="quiet">{escape(way)} · {sae.d_sae:,} latents, {facts.n_alive:,} alive · '
        f"{facts.rows:,} tokens · {escape(facts.model)}</span></li>"
    )


def _css(content: bytes) -> Callable[[Any], Awaitable["Response"]]:
    async def answer(_request: Any) -> "Response":
        from starlette.responses import Response

        return Response(content, media_type=_TYPES[".css"])

    return answer


def _with_headers(app: App) -> App:
    """Adds `HEADERS` to every answer, errors included; a header that is already there stays."""
    more = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def called(scope: Any, receive: Any, send: Any) -> None:
        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message["headers"]}
                headers = [*message["headers"], *(one for one in more if one[0] not in there)]
                message = {**message, "headers": headers}
            await send(message)

        await app(scope, receive, sent)

    return called
