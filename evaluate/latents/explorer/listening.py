"""Opens a socket and serves an application on it until Ctrl-C.

Owns the errors that a user can repair: a port that is taken, a host that is not this machine's,
packages that are not installed.
"""

import errno
import importlib.util
import ipaddress
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGES = ("starlette", "uvicorn")

_WHY = {
    errno.EADDRINUSE: "another program listens there; pass another port, or --port 0 for any",
    errno.EACCES: "this user may not listen there; pass a port above 1023",
    errno.EADDRNOTAVAIL: "the host is not this machine's; pass --host 127.0.0.1",
}


def check_installed() -> None:
    """Checks that the server's packages are installed.

    Raises:
        ValueError: a package is missing; the text names the command that installs it.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"the page's server needs {' and '.join(missing)}, got no such package; "
            "run pip install 'scopeworks[latents]'"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server at `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        host: an address of this machine, or its name.
        port: 0 for any free port.

    Raises:
        OSError: the address cannot be used; the text says why.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise OSError(f"host must be an address of this machine, got {host}: {error}") from error
    family, kind, protocol, _, address = found[0]
    opened = socket.socket(family, kind, protocol)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(128)
    except OSError as error:
        opened.close()
        why = _WHY.get(error.errno or 0, error.strerror)
        raise OSError(f"host and port must be free, got {host}:{port}: {why}") from error
    return opened


def address(host: str, opened: socket.socket) -> str:
    """The URL at which a browser on this machine reaches a socket."""
    port = opened.getsockname()[1]
    anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
    shown = anywhere.get(host, host)
    return f"http://[{shown}]:{port}/" if ":" in shown else f"http://{shown}:{port}/"


def serve(app: "Callable[..., Any]", opened: socket.socket) -> None:
    """Serves an ASGI application until Ctrl-C, which ends it quietly."""
    import uvicorn

    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="off", server_header=False,
        timeout_graceful_shutdown=2,
    )  # fmt: skip
    try:
        uvicorn.Server(config).run(sockets=[opened])
    except KeyboardInterrupt:
        pass
    finally:
        opened.close()
