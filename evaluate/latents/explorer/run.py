"""The command `latents serve`: opens everything, then serves until Ctrl-C."""

import asyncio
import sys
from collections.abc import Sequence

from .folders import Served, served_indexes
from .listening import address, check_installed, is_loopback, listen, serve
from .serving import LOOPBACK_HOSTS, App, application
from .settings import ServeSettings


def serve_indexes(settings: ServeSettings) -> None:
    """Serves indexes until Ctrl-C; prints one line with the address.

    Raises:
        OSError: an index, model or SAE is missing, an index is unfinished, or the port is taken.
        ValueError: an index is damaged, a package is missing, a model or SAE does not fit.
    """
    check_installed()
    served = served_indexes(settings.index)
    with listen(settings.host, settings.port) as opened:
        apis = _apis(settings, served) if settings.model is not None else {}
        hosts = LOOPBACK_HOSTS if is_loopback(settings.host) else None
        if hosts is None:
            print(
                f"whoever reaches {settings.host} can read these indexes"
                + (" and run the model" if apis else ""),
                file=sys.stderr,
            )
        app = application(served, hosts, apis)
        print(f"latents: {address(settings.host, opened)} (Ctrl-C ends)", flush=True)
        serve(app, opened)


def _apis(settings: ServeSettings, served: Sequence[Served]) -> dict[str, App]:
    """Each index's name -> its playground's requests; all share one model and one lock."""
    from .api import playground_api
    from .playground import open_playgrounds

    found, lock = open_playgrounds(settings, served), asyncio.Lock()
    return {one.name: playground_api(each, lock) for one, each in zip(served, found, strict=True)}
