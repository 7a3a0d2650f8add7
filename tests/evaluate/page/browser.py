"""A headless Chromium that opens one page: what a test sees of a page as readers see it.

Talks to the browser over its debugging socket on 127.0.0.1, with the websocket client that comes
with Dask.
"""

import asyncio
import base64
import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from tornado.websocket import websocket_connect

NAMES = ("chromium", "chromium-browser", "google-chrome")
_PATIENCE_S = 60.0


def program() -> str | None:
    """The browser of this machine, if there is one."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One tab. Use as a context manager: the browser ends with the block."""

    def __init__(self, profile: Path):
        self.profile, self.events = profile, []
        self._loop = asyncio.new_event_loop()
        self._count = 0

    def __enter__(self) -> Self:
        name = program()
        assert name is not None
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        flags += ["--remote-debugging-port=0", f"--user-data-dir={self.profile}", "about:blank"]
        self._process = subprocess.Popen(
            [name, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            address = self._address()
            self._socket = self._wait(websocket_connect, address, max_message_size=2**28)
            target = self._send("Target.createTarget", url="about:blank")["targetId"]
            attached = self._send("Target.attachToTarget", targetId=target, flatten=True)
            self._session: str | None = attached["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.send(f"{domain}.enable")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._end()
        self._loop.close()

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _address(self) -> str:
        """Where the browser listens: it writes port and path into its profile."""
        file, end = self.profile / "DevToolsActivePort", time.monotonic() + _PATIENCE_S
        while time.monotonic() < end and self._process.poll() is None:
            if file.is_file() and len(lines := file.read_text().split()) == 2:
                return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
            time.sleep(0.05)
        raise AssertionError(f"{self._process.args} does not listen")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command to the tab, and its answer."""
        return self._send(method, self._session, **parameters)

    def _send(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._count += 1
        number, message = self._count, {"method": method, "params": parameters}
        message |= {"id": number} | ({"sessionId": session} if session else {})
        self._wait(self._socket.write_message, json.dumps(message))
        while (got := self._read()).get("id") != number:
            self.events.append(got)
        assert "error" not in got, got
        return got["result"]

    def _read(self) -> dict[str, Any]:
        text = self._wait(self._socket.read_message)
        assert isinstance(text, str), "the browser has gone"
        return json.loads(text)

    def _wait(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """What an asynchronous function gives."""

        async def called() -> Any:
            return await asyncio.wait_for(function(*arguments, **named), _PATIENCE_S)

        return self._loop.run_until_complete(called())

    def open(self, path: Path) -> None:
        """Opens a file and waits until it is loaded; what was logged before is forgotten."""
        self.events.clear()
        self.send("Page.navigate", url=path.absolute().as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read())

    def run(self, script: str) -> Any:
        """The value of an expression on the page."""
        got = self.send("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in got, got["exceptionDetails"]
        return got["result"].get("value")

    def resize(self, width: int, height: int = 800) -> None:
        """The window in CSS pixels; below 500 as a phone lays pages out."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 500,
        )  # fmt: skip

    def show(self, scheme: str = "light", medium: str = "screen") -> None:
        """The reader's colour scheme and medium."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", media=medium, features=features)

    def press(self, key: str) -> None:
        """A key of the keyboard, where the focus is."""
        text = {"Enter": "\r", "Space": " "}.get(key, "")
        for kind in ("keyDown", "keyUp"):
            code = {"Enter": 13, "Tab": 9, "Space": 32}[key]
            named = {"key": text if key == "Space" else key, "windowsVirtualKeyCode": code}
            more = {"text": text} if text and kind == "keyDown" else {}
            self.send("Input.dispatchKeyEvent", type=kind, code=key, **named, **more)

    def picture(self, path: Path, whole: bool = False) -> None:
        """A PNG of the window, or of the whole page."""
        got = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(got["data"]))

    def pdf(self, path: Path) -> None:
        """The page as it is printed."""
        got = self.send("Page.printToPDF", preferCSSPageSize=True, printBackground=False)
        path.write_bytes(base64.b64decode(got["data"]))

    def complaints(self) -> list[str]:
        """What the console would show: errors, warnings, violations of the policy."""
        named = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [json.dumps(e["params"])[:500] for e in self.events if e["method"] in named]

    def requests(self) -> list[str]:
        """Addresses that the page asked for, itself among them."""
        found = [e["params"] for e in self.events if e["method"] == "Network.requestWillBeSent"]
        return [one["request"]["url"] for one in found]
