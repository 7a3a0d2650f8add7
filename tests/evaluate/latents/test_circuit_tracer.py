"""circuit-tracer opens the folder of an index: its model of a record, and its page in a browser.

The page asks other hosts for scripts and for the records. The browser's requests to them are
answered here, with the scripts of npm's packages and ranges of the index's files.
"""

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from scopeworks.evaluate.latents.files.folder import open_index
from scopeworks.tests.evaluate.latents import made_contents as made
from scopeworks.tests.evaluate.page.browser import Browser, program

ROOT = Path(__file__).parents[3]
HOME = ROOT / ".venv" / "circuit-tracer"
D_SAE, LATENTS = 60, (5, 41)
HUB = "huggingface.co/someone/latents/resolve/main/features/"
SCRIPTS = {
    # d3-jetpack takes d3.nest from what is a package of its own since d3 6.
    r".*/lib/d3\.js": ("d3/dist/d3.min.js", "d3-collection/dist/d3-collection.min.js"),
    r".*/lib/jetpack_.*\.js": ("d3-jetpack/build/d3-jetpack.cjs",),
    r".*/dagre\.min\.js": ("dagre/dist/dagre.min.js",),
    r".*/pako\.min\.js": ("pako/dist/pako.min.js",),
}
LATER_JETPACK = b"""
(made => d3.conventions = options => {
  const c = made(options)
  return Object.assign(c, {drawAxis: svg => d3.drawAxis({...c, svg: svg || c.svg})})
})(d3.conventions)
"""
"""What the page uses of a build of d3-jetpack that is not on npm."""

pytestmark = pytest.mark.slow


class RoutedBrowser(Browser):
    """A browser whose requests to other hosts are answered from `index` and npm's packages."""

    def __init__(self, profile: Path, index: Path):
        super().__init__(profile)
        self.index, self.ranges = index, []
        self._posted: set[int] = set()

    def _read(self) -> dict[str, Any]:
        while (event := super()._read()).get("id") in self._posted:
            assert "error" not in event, event
        if event.get("method") == "Fetch.requestPaused":
            self._answer(event["params"])
        return event

    def _answer(self, paused: dict[str, Any]) -> None:
        """Sends the answer and does not wait: whoever reads next may be waiting for another."""
        request = paused["request"]
        address, number = urlsplit(request["url"]), {"requestId": paused["requestId"]}
        if address.hostname == "127.0.0.1" and address.path != "/favicon.ico":
            return self._post("Fetch.continueRequest", number)
        content = self._content(f"{address.hostname}{address.path}", request["headers"])
        headers = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "Range"}
        answer = {
            "responseCode": 404 if content is None else 200,
            "responseHeaders": [{"name": k, "value": v} for k, v in headers.items()],
            "body": base64.b64encode(content or b"").decode(),
        }
        return self._post("Fetch.fulfillRequest", number | answer)

    def _content(self, path: str, headers: dict[str, str]) -> bytes | None:
        for pattern, scripts in SCRIPTS.items():
            if re.fullmatch(pattern, path):
                parts = [(HOME / "node_modules" / script).read_bytes() for script in scripts]
                return b"\n".join([*parts, LATER_JETPACK * ("jetpack" in path)])
        if path.startswith("transformer-circuits.pub/") or path.endswith("/favicon.ico"):
            return b""
        if not path.startswith(HUB):
            return None
        content = (self.index / "features" / path.removeprefix(HUB)).read_bytes()
        wanted = next((v for k, v in headers.items() if k.lower() == "range"), None)
        if wanted is None:
            return content
        self.ranges.append(wanted)
        first, last = wanted.removeprefix("bytes=").split("-")
        return content[int(first) : int(last) + 1]

    def _post(self, method: str, parameters: dict[str, Any]) -> None:
        self._count += 1
        self._posted.add(self._count)
        message = {"id": self._count, "method": method, "params": parameters}
        self._wait(self._socket.write_message, json.dumps(message | {"sessionId": self._session}))

    def visit(self, url: str) -> None:
        """Opens an address; what was logged before is forgotten."""
        self.events.clear()
        self.send("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read())

    def until(self, script: str) -> Any:
        """The value of an expression once it is true."""
        for _ in range(200):
            if value := self.run(script):
                return value
            self.send("Runtime.evaluate", expression="new Promise(f => setTimeout(f, 50))",
                      awaitPromise=True)  # fmt: skip
        raise AssertionError(f"{script} stays false: {self.complaints()}")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("index")
    made.write(out, D_SAE, site="transcoder_in.2", target_site="mlp_out.2")
    return out


@pytest.fixture(scope="module")
def lines(index: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """What the program in circuit-tracer's environment prints; it serves the page meanwhile."""
    python = HOME / "bin" / "python"
    if not python.exists():
        pytest.skip("circuit-tracer is not installed: `make acceptance` does that")
    command = [python, Path(__file__).with_name("check_circuit_tracer.py"), index]
    command += [tmp_path_factory.mktemp("graphs"), *map(str, LATENTS)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as running:  # pyright: ignore
        assert running.stdin and running.stdout and running.stderr
        found = [running.stdout.readline().strip(), running.stdout.readline().strip()]
        if not all(found):
            raise AssertionError(running.stderr.read())
        yield found
        running.stdin.close()


def test_every_record_is_valid(lines: list[str]):
    assert int(lines[0]) == D_SAE


def test_page_draws_the_records(index: Path, lines: list[str], tmp_path: Path):
    if program() is None:
        pytest.skip("no Chromium on this machine")
    if not (HOME / "node_modules" / "pako").exists():
        pytest.skip("no npm packages: `make acceptance` installs them where npm is")
    with RoutedBrowser(tmp_path / "profile", index) as browser:
        browser.send("Fetch.enable")
        for latent in LATENTS:
            node = f"2_{latent}_1"
            browser.visit(f"http://127.0.0.1:{lines[1]}/index.html?slug=made-up&clickedId={node}")
            browser.until(
                "document.querySelectorAll('.feature-example-list .ctx-container').length"
            )
            browser.picture(tmp_path / f"{latent}.png")
            check(browser, index, latent)
            assert not [line for line in browser.complaints() if '"error"' in line]
    assert browser.ranges


def check(browser: RoutedBrowser, index: Path, latent: int) -> None:
    """What the page shows is what the record holds."""
    record = open_index(index).record(latent)
    titles = browser.run(
        "[...document.querySelectorAll('.quantile-title')].map(e => e.textContent)"
    )
    assert [t.strip() for t in titles] == [q["quantile_name"] for q in record["examples_quantiles"]]
    texts = browser.run(
        "[...document.querySelectorAll('.feature-example-list .text-wrapper')]"
        ".map(e => e.textContent)"
    )
    examples = [e for q in record["examples_quantiles"] for e in q["examples"]]
    assert texts == ["".join(example["tokens"]) for example in examples]
    peaks = browser.run(
        "[...document.querySelectorAll('.train_token_ind')].map(e => e.textContent)"
    )
    assert peaks == [e["tokens"][e["train_token_ind"]] for e in examples]
    logits = browser.run(
        "[...document.querySelectorAll('.feature-example-logits .token')].map(e => e.textContent)"
    )
    assert logits == record["top_logits"] + record["bottom_logits"]
    title = browser.until(
        "[...document.querySelectorAll('.feature-detail .feature-title')]"
        ".map(e => e.textContent).find(text => text.includes('Freq'))"
    )
    assert f"{record['activation_frequency'] * 100:.3f}%" in title
    values = record["quantile_values"]
    percentile = next((i + 1 for i, v in enumerate(values) if v >= 1.5), 100)
    assert f"Act: 1.50 {percentile}pct" in title
    bars = browser.run("document.querySelectorAll('.histogram-placeholder .bar').length")
    assert bars == len(record["histogram"])
