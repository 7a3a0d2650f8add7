"""Listening: errors that a user can mend, and which addresses are this machine's alone."""

import importlib.util
import socket

import pytest

from scopeworks.evaluate.latents.explorer import listening


def test_a_port_in_use_is_one_line():
    with listening.listen("127.0.0.1", 0) as opened:
        port = opened.getsockname()[1]
        with pytest.raises(OSError, match=rf"got 127.0.0.1:{port}: another program listens there"):
            listening.listen("127.0.0.1", port)
        assert listening.address("127.0.0.1", opened) == f"http://127.0.0.1:{port}/"
        assert listening.address("0.0.0.0", opened) == f"http://127.0.0.1:{port}/"
        assert listening.address("::", opened) == f"http://[::1]:{port}/"


def test_a_host_that_is_not_this_machines():
    with pytest.raises(OSError, match=r"got 192\.0\.2\.1:0: the host is not this machine's"):
        listening.listen("192.0.2.1", 0)


def test_a_host_that_has_no_address(monkeypatch):
    def unknown(*_: object, **__: object):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(OSError, match="host must be an address of this machine, got nowhere"):
        listening.listen("nowhere", 0)


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("192.168.0.2", False),
        ("box.example", False),
    ],
)
def test_loopback(host: str, alone: bool):
    assert listening.is_loopback(host) is alone


def test_what_is_not_installed_is_named(monkeypatch):
    listening.check_installed()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"needs starlette and uvicorn.*'scopeworks\[latents\]'"):
        listening.check_installed()
