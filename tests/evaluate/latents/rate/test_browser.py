"""The rating page in a real browser, by keyboard alone.

Skipped, with the reason, where no Chromium is installed.
"""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from scopeworks.evaluate.latents.explorer.listening import listen
from scopeworks.evaluate.latents.rate.answers import AnswerFile
from scopeworks.evaluate.latents.rate.card import card
from scopeworks.evaluate.latents.rate.server import application
from scopeworks.tests.evaluate.latents.rate.cases import a_session, page, record
from scopeworks.tests.evaluate.page.browser import Browser, program

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(program() is None, reason="no Chromium here: apt-get install chromium"),
]
HIDDEN = "document.getElementById('{}').hidden"
TEXT = "document.getElementById('{}').textContent"


class Served:
    """The page of one rater, served in a thread."""

    def __init__(self, path: Path):
        session = a_session(n=2)
        self.path, self.order = path, session.order("ada")
        kept = AnswerFile(path, session.items)
        app = application("ada", self.order, kept, lambda _: card(record(), page()))
        self.socket = listen("127.0.0.1", 0)
        self.server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        self.thread = threading.Thread(target=self.server.run, args=([self.socket],))
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.socket.getsockname()[1]}/"

    def entries(self) -> dict:
        return AnswerFile(self.path, self.order).entries

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)
        assert not self.thread.is_alive()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    there = Served(tmp_path / "ada.jsonl")
    yield there
    there.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


def until(browser: Browser, script: str) -> None:
    end = time.monotonic() + 30
    while not browser.run(script):
        assert time.monotonic() < end, f"never: {script}"
        time.sleep(0.02)


def visit(browser: Browser, url: str) -> None:
    browser.events.clear()
    browser.send("Page.navigate", url=url)
    until(browser, f"document.readyState === 'complete' && !{HIDDEN.format('card')}")


def key(browser: Browser, name: str) -> None:
    code = {"Enter": 13, "Escape": 27}.get(name, 0)
    text = {"text": name} if len(name) == 1 else {}
    for kind in ("keyDown", "keyUp"):
        more = text if kind == "keyDown" else {}
        browser.send(
            "Input.dispatchKeyEvent", type=kind, key=name, windowsVirtualKeyCode=code, **more
        )


def at(browser: Browser, place: int, done: int) -> None:
    until(browser, f"{TEXT.format('place')} === 'Latent {place} of 4.'")
    until(browser, f"{TEXT.format('done')} === '{done} of 4 rated.'")
    until(browser, f"!{HIDDEN.format('card')}")


def test_a_rater_needs_no_mouse(browser: Browser, served: Served):
    browser.resize(1280)
    visit(browser, served.url)
    at(browser, 1, 0)
    key(browser, "y")
    at(browser, 2, 1)
    key(browser, "m")
    at(browser, 3, 2)
    key(browser, "u")
    at(browser, 2, 1)
    key(browser, "n")
    at(browser, 3, 2)
    key(browser, "t")
    for letter in "my note":
        key(browser, letter)
    key(browser, "Enter")
    key(browser, "f")
    until(browser, "document.getElementById('flag').checked")
    key(browser, "ArrowRight")
    at(browser, 4, 2)
    key(browser, "y")
    at(browser, 3, 3)
    key(browser, "?")
    until(browser, "document.getElementById('help').open")
    key(browser, "y")
    key(browser, "Escape")
    until(browser, "!document.getElementById('help').open")
    key(browser, "m")
    until(browser, f"!{HIDDEN.format('end')}")
    said = [served.entries()[number] for number in served.order]
    assert [one.answer for one in said] == ["yes", "no", "maybe", "yes"]
    assert [(one.note, one.flag) for one in said] == [("", False)] * 2 + [("my note", True)] + [
        ("", False)
    ]
    assert browser.complaints() == []
    assert all(url.startswith(served.url) for url in browser.requests())


def test_goes_on_where_it_was_and_two_tabs_lose_nothing(browser: Browser, served: Served):
    visit(browser, served.url)
    key(browser, "y")
    at(browser, 2, 1)
    other = AnswerFile(served.path, served.order)  # as a second tab's server would write
    assert other.entries[served.order[0]].answer == "yes"
    visit(browser, served.url)
    at(browser, 2, 1)
    assert browser.run("document.getElementById('yes').getAttribute('aria-pressed')") == "false"
    key(browser, "ArrowLeft")
    at(browser, 1, 1)
    assert browser.run("document.getElementById('yes').getAttribute('aria-pressed')") == "true"


def test_html_in_tokens_is_text(browser: Browser, served: Served):
    visit(browser, served.url)
    assert browser.run("document.querySelector('.snippet').textContent") == "def <b>f</b>(↵x"
    assert browser.run("document.querySelectorAll('.snippet b').length") == 0
    assert browser.run("document.querySelector('.peak').textContent") == "(↵"


def test_stopped_server_is_said_and_nothing_goes_on(browser: Browser, tmp_path: Path):
    there = Served(tmp_path / "ada.jsonl")
    try:
        visit(browser, there.url)
        at(browser, 1, 0)
    finally:
        there.close()
    key(browser, "y")
    until(browser, f"!{HIDDEN.format('trouble')}")
    assert browser.run(TEXT.format("trouble")).startswith("Not kept: The server does not answer.")
    at(browser, 1, 0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_fits_any_screen(browser: Browser, served: Served, width: int, scheme: str):
    browser.resize(width)
    browser.show(scheme)
    visit(browser, served.url)
    at(browser, 1, 0)
    root = "document.documentElement"
    assert browser.run(f"{root}.scrollWidth <= {root}.clientWidth")
    footer = "document.querySelector('footer').getBoundingClientRect()"
    assert browser.run(f"{footer}.height < 0.25 * innerHeight")
