"""Cloud emulators on 127.0.0.1, and a proxy before them that fails on purpose."""

import http.client
import random
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BUCKET = "acts"


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@contextmanager
def gcs_emulator() -> Iterator[int]:
    """Port of a Google Cloud Storage emulator with an empty bucket."""
    from gcp_storage_emulator.server import create_server

    port = free_port()
    server = create_server("127.0.0.1", port, in_memory=True, default_bucket=BUCKET)
    server.start()
    try:
        yield port
    finally:
        server.stop()


@contextmanager
def s3_emulator() -> Iterator[int]:
    """Port of an S3 emulator with an empty bucket."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
    )
    # All of moto's servers in a process share their objects: another test file's may be there.
    reset = urllib.request.Request(f"http://127.0.0.1:{port}/moto-api/reset", method="POST")
    urllib.request.urlopen(reset, timeout=30).close()
    client.create_bucket(Bucket=BUCKET)
    client.close()
    try:
        yield port
    finally:
        server.stop()


def gcs_options(port: int) -> dict[str, Any]:
    return {"endpoint_url": f"http://127.0.0.1:{port}", "token": "anon"}


def s3_options(port: int) -> dict[str, Any]:
    return {"endpoint_url": f"http://127.0.0.1:{port}", "key": "a", "secret": "b"}


class Faults:
    """Which request fails how; counts what it did."""

    KINDS = ("unavailable", "reset before", "reset after", "slow")

    def __init__(self, share: float, seed: int):
        self._share, self._random, self._lock = share, random.Random(seed), threading.Lock()
        self.done = dict.fromkeys(self.KINDS, 0)
        self.fetched_bytes = 0
        """Of what was asked for with GET."""

    def draw(self) -> str | None:
        with self._lock:
            if self._random.random() >= self._share:
                return None
            kind = self._random.choice(self.KINDS)
            self.done[kind] += 1
            return kind

    def count(self, method: str, n_bytes: int) -> None:
        with self._lock:
            self.fetched_bytes += n_bytes if method == "GET" else 0


@contextmanager
def faulty_proxy(target: int, faults: Faults) -> Iterator[int]:
    """Port of a proxy that forwards to `target`, and at times answers 503, hangs up or dawdles."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fault = faults.draw()
            if fault == "unavailable":
                self.send_response(503)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if fault == "reset before":
                self.hang_up()
                return
            if fault == "slow":
                time.sleep(0.3)
            status, headers, answer = self.ask(body)
            faults.count(self.command, len(answer))
            if fault == "reset after":
                self.hang_up()
                return
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                    self.send_header(name, value)
            # A HEAD's length is that of the body which GET would have sent.
            length = dict(headers).get("Content-Length") if self.command == "HEAD" else len(answer)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer)

        def ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", target)
            connection.request(self.command, self.path, body, dict(self.headers))
            response = connection.getresponse()
            answer = response.read()
            connection.close()
            return response.status, response.getheaders(), answer

        def hang_up(self) -> None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, format: str, *args: Any) -> None:
            pass

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = forward

    server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
