"""The explorer in a real browser, from disk and served: every view, keys, phones, hostile texts.

Skipped, with the reason, where no Chromium is installed.
"""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from scopeworks.evaluate.latents.explorer.api import playground_api
from scopeworks.evaluate.latents.explorer.folders import served_indexes
from scopeworks.evaluate.latents.explorer.listening import address, listen
from scopeworks.evaluate.latents.explorer.playground import Playground
from scopeworks.evaluate.latents.explorer.serving import App, application
from scopeworks.evaluate.latents.explorer.static_page import place_page
from scopeworks.evaluate.latents.explorer.steering import SteeredModel
from scopeworks.harvest.model.sites import parse_site
from scopeworks.tests.evaluate.latents import made_contents
from scopeworks.tests.evaluate.page.browser import Browser, program
from scopeworks.tests.evaluate.saes import random_sae

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(program() is None, reason="no Chromium here: apt-get install chromium"),
]
HOSTILE = "<img src=x onerror=alert(1)>\u202e"
SAID = {
    "text": f"{HOSTILE} after def",
    "by": HOSTILE,
    "scores": {
        "detection": {
            "value": 0.75,
            "interval": [0.6, 0.9],
            "metric": "auroc",
            "controls": {"shuffled": {"value": 0.5}, "random": {"value": 0.65}},
        },
        "simulation": {"value": 0.36, "metric": "r", "controls": {"random": {"value": 0.45}}},
        "alone": {"value": 0.99, "metric": "r", "controls": {}},
    },
}
SAID_OF_9 = {
    "text": "fires on nothing",
    "by": "m",
    "scores": {
        "detection": {"value": 0.9, "metric": "auroc", "controls": {"shuffled": {"value": 0.88}}}
    },
}
WIDER = {"fingerprint": made_contents.WIDER, "target_site": "mlp_out.3"}
VIEWS = ("#/search", "#/search?q=t1", "#/latent/5", "#/map", "#/compare?with=wider&latent=5")
SHOWN = "!!document.querySelector('main h1') && !document.querySelector('[aria-busy]')"
ROWS = "document.querySelectorAll('.rows .row').length"
MARKUP = "document.querySelectorAll('img, main script, .chip b, .snippet b, header i').length"


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[Path]:
    """Two indexes beside one another, one with explanations, both with hostile texts."""
    root = tmp_path_factory.mktemp("indexes")
    made_contents.write(root / "here", 120, name=HOSTILE)
    made_contents.write(root / "wider", 200, 1, name="its-own", **WIDER)
    for name in ("here", "wider"):
        place_page(root / name)
    said = json.dumps({"5": SAID, "9": SAID_OF_9})
    script = root / "here" / "data" / "explanations.js"
    script.write_text(f"scopeworks.explanations({said});", encoding="utf-8")
    return [root / "here", root / "wider"]


class Running:
    """An application, served in a thread."""

    def __init__(self, app: App):
        self.socket = listen("127.0.0.1", 0)
        config = uvicorn.Config(app, log_level="error", lifespan="off")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, args=([self.socket],))
        self.thread.start()
        self.url = address("127.0.0.1", self.socket)

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(10)
        self.socket.close()
        assert not self.thread.is_alive()


def without_ranges(app: App) -> App:
    """A host that does not know ranges."""

    async def called(scope: Any, receive: Any, send: Any) -> None:
        headers = [one for one in scope.get("headers", []) if one[0] != b"range"]
        await app({**scope, "headers": headers}, receive, send)

    return called


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture(scope="module", params=["disk", "served", "no ranges"])
def base(request, folders: list[Path]) -> Iterator[str]:
    """Where the first index is: from disk, from our server, from a host without ranges."""
    if request.param == "disk":
        yield f"{folders[0].as_uri()}/index.html"
        return
    app = application(served_indexes(folders))
    with Running(app if request.param == "served" else without_ranges(app)) as running:
        yield f"{running.url}here/"


def until(browser: Browser, script: str) -> None:
    end = time.monotonic() + 30
    while not browser.run(script):
        assert time.monotonic() < end, f"never: {script}"
        time.sleep(0.02)


def visit(browser: Browser, url: str) -> None:
    """Opens a page anew; what was logged before is forgotten."""
    browser.send("Page.navigate", url="about:blank")
    browser.events.clear()
    browser.send("Page.navigate", url=url)
    until(browser, f"document.readyState === 'complete' && {SHOWN}")


def key(browser: Browser, name: str) -> None:
    code = {"Enter": 13, "Escape": 27, "ArrowRight": 39, "ArrowDown": 40}.get(name, 0)
    text = {"text": "\r" if name == "Enter" else name} if len(name) == 1 or code == 13 else {}
    for kind in ("keyDown", "keyUp"):
        more = text if kind == "keyDown" else {}
        named: dict[str, Any] = {"key": name, "windowsVirtualKeyCode": code}
        browser.send("Input.dispatchKeyEvent", type=kind, **named, **more)


def click(browser: Browser, x: float, y: float) -> None:
    for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
        more: dict[str, Any] = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
        browser.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_asks_for_its_own_files_and_has_no_complaint(browser, base: str, view: str):
    browser.resize(1280)
    visit(browser, base + view)
    time.sleep(0.3)
    assert browser.complaints() == []
    root = base.rsplit("here/", 1)[0]
    assert all(url.startswith((root, "data:,")) for url in browser.requests())
    assert browser.run(MARKUP) == 0
    assert HOSTILE[:-1] in browser.run("document.getElementById('sae-name').textContent")


def test_search_open_shade_and_neighbours(browser: Browser, base: str, folders: list[Path]):
    wanted = served_indexes(folders)[0].index.page(17)
    visit(browser, base)
    until(browser, f"{ROWS} === 50")
    browser.run("document.getElementById('q').focus()")
    browser.send("Input.insertText", text=wanted["tokens"][0][0].strip())
    until(browser, "location.hash.startsWith('#/search?q=')")
    until(browser, "[...document.querySelectorAll('.row h2 a')].some(a => a.textContent === '17')")
    until(browser, "!!document.querySelector('.row mark')")
    link = "[...document.querySelectorAll('.row h2 a')].find(a => a.textContent === '17')"
    browser.run(f"{link}.click()")
    until(browser, f"location.hash === '#/latent/17' && {SHOWN} && !!document.querySelector('h3')")
    record = served_indexes(folders)[0].index.record(17)
    best = record["examples_quantiles"][0]["examples"][0]
    snippet = browser.run("document.querySelector('.latent .snippet').textContent")
    assert snippet == "".join(best["tokens"]).replace("\n", "↵")
    mark = "document.querySelector('.latent .snippet mark')"
    value = max(best["tokens_acts_list"])
    title = browser.run(f"{mark}.title").rsplit(": ", 1)
    assert float(title[1]) == pytest.approx(value, rel=1e-3)
    assert browser.run(f"getComputedStyle({mark}).textDecorationThickness") == "4px"
    browser.run("document.querySelector('.related a').click()")
    near = wanted["neighbours"][0][0]
    until(browser, f"location.hash === '#/latent/{near}' && {SHOWN}")
    browser.run("history.back()")
    until(browser, "location.hash === '#/latent/17'")
    browser.run("history.back()")
    until(browser, "location.hash.startsWith('#/search?q=') && document.getElementById('q')?.value")
    assert browser.complaints() == []


def test_search_finds_what_a_plain_search_finds(browser: Browser, base: str, folders: list[Path]):
    text = (folders[0] / "data" / "search" / "00.js").read_text(encoding="utf-8")
    columns = json.loads(text[text.index("{") : text.rindex("}") + 1])
    fields = ("tokens", "raised", "context")
    texts = ["\n".join(x for f in fields for x in columns[f][i]).lower() for i in range(120)]
    visit(browser, base)
    until(browser, f"{ROWS} === 50")
    for query in ("t1", "T49", "t12 t3", '" t2"', "</script", "é", "zzz", '"'):
        wanted = [word.strip('"') or word for word in ([query] if '"' in query else query.split())]
        n = sum(all(word.lower() in text for word in wanted) for text in texts)
        marks = f"scopeworks.list.matches(index, {json.dumps(query)}, '')"
        script = f"scopeworks.data.index().then(index => [...{marks}].filter(Boolean).length)"
        got = browser.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )["result"]["value"]
        assert got == n, query


def test_what_is_said_of_a_latent_is_shown_as_text(browser: Browser, base: str):
    visit(browser, f"{base}#/latent/5")
    text = browser.run("document.querySelector('.explanation').innerText")
    assert "<img src=x onerror=alert(1)>⟨202e⟩ after def" in text
    assert "auroc" in text and "0.75" in text and "0.6 to 0.9" in text and "shuffled 0.5" in text
    visit(browser, f"{base}#/search?q=%22{made_contents.HTML.replace('/', '%2F')[:9]}")
    until(browser, f"{ROWS} > 0")
    assert made_contents.HTML in browser.run("document.querySelector('.rows').textContent")
    visit(browser, f"{base}#/search?q=nothing&in=explanation")
    until(browser, f"{ROWS} === 1 && document.querySelector('.row h2').textContent === '9'")
    assert browser.run(MARKUP) == 0 and browser.complaints() == []


def test_filters_and_sorting(browser: Browser, base: str, folders: list[Path]):
    index = served_indexes(folders)[0].index
    fired = {i: index.page(i)["fired"] for i in range(120)}
    visit(browser, f"{base}#/search?sort=density")
    until(browser, f"{ROWS} === 50")
    numbers = "[...document.querySelectorAll('.row h2')].map(h => Number(h.textContent))"
    got = browser.run(numbers)
    assert got == sorted(fired, key=lambda i: (-fired[i], i))[:50]
    browser.run("document.querySelector('.turn').click()")
    until(browser, f"location.hash.includes('up=1') && {numbers}[0] === {made_contents.DEAD}")
    visit(browser, f"{base}#/search?density=1e-3-1e-2&sort=density&up=1")
    until(browser, f"{ROWS} > 0")
    inside = [i for i in fired if 1e-3 <= fired[i] / made_contents.ROWS < 1e-2]
    assert browser.run("document.querySelector('.status').textContent").startswith(
        f"{len(inside)} of 120"
    )
    visit(browser, f"{base}#/search?density=dead")
    until(browser, f"{ROWS} === 1 && {numbers}[0] === {made_contents.DEAD}")


def test_scores_are_read_beside_their_best_control(browser: Browser, base: str):
    numbers = "[...document.querySelectorAll('.row h2')].map(h => Number(h.textContent))"
    visit(browser, f"{base}#/search?score=0")
    until(browser, f"{ROWS} === 2")
    badges = browser.run("[...document.querySelectorAll('.score')].map(s => s.textContent)")
    assert badges == [
        "detection auroc 0.75 (shuffled 0.50, random 0.65)",
        "simulation r 0.36 (random 0.45)",
        "alone r 0.99 (no controls)",
        "detection auroc 0.90 (shuffled 0.88)",
    ]
    visit(browser, f"{base}#/search?sort=score")
    until(browser, f"{ROWS} === 50")
    assert browser.run(numbers)[:3] == [5, 9, 0]
    visit(browser, f"{base}#/search?score=0&by=simulation")
    until(browser, f"{ROWS} === 0")
    choices = "[...document.querySelectorAll('.filters option')].map(o => o.textContent)"
    assert [one for one in browser.run(choices) if one.endswith((", auroc", ", r"))] == [
        "detection, auroc",
        "simulation, r",
    ]
    visit(browser, f"{base}#/search?sort=toString&in=toString&q=t1&by=toString")
    until(browser, f"{ROWS} > 0")
    assert browser.complaints() == []


def test_a_host_without_ranges_sends_each_file_once(browser: Browser, folders: list[Path]):
    with Running(without_ranges(application(served_indexes(folders)))) as running:
        visit(browser, f"{running.url}here/")
        until(browser, "document.querySelectorAll('.row mark').length > 5")
        asked = [url for url in browser.requests() if url.endswith((".bin", ".idx"))]
    assert len(asked) == len(set(asked)) == 4


def test_a_click_on_the_map_opens_the_latent(browser: Browser, base: str):
    browser.resize(1280)
    visit(browser, f"{base}#/map")
    until(browser, "!!document.querySelector('.map-view').shown?.placed")
    time.sleep(0.2)
    place = browser.run(
        "(() => { const m = document.querySelector('.map-view').shown;"
        " const box = m.canvas.getBoundingClientRect();"
        " return [box.left + m.screenX(42), box.top + m.screenY(42), m.at(m.screenX(42),"
        " m.screenY(42))]; })()"
    )
    assert place[2] == 42
    click(browser, place[0], place[1])
    until(browser, "location.hash === '#/latent/42'")
    browser.run("window.kept = null; location.hash = '#/map?latent=7'")
    until(browser, "document.querySelector('.map-view')?.shown?.marked === 7")
    browser.run("window.kept = document.querySelector('.map-view').shown; location.hash = '#/map'")
    until(browser, "kept.marked === undefined && kept.scale === 6")
    browser.run("location.hash = '#/search'")
    until(browser, f"{ROWS} === 50")
    browser.run("location.hash = '#/map'")
    until(browser, "document.querySelector('.map-view')?.shown === kept")
    assert browser.complaints() == []


def test_two_saes_beside_one_another(browser: Browser, base: str, folders: list[Path]):
    nearest = served_indexes(folders)[0].index.page(5)["others"]["wider"]
    visit(browser, f"{base}#/compare?with=wider&latent=5")
    until(browser, "document.querySelectorAll('.sides .card').length === 4")
    titles = browser.run("[...document.querySelectorAll('.card h3')].map(h => h.textContent)")
    assert titles == ["Latent 5"] + [f"Latent {i} · cosine {c:.2f}" for i, c in nearest]
    browser.run("document.querySelectorAll('.card h3 a')[1].click()")
    until(browser, f"location.hash === '#/latent/{nearest[0][0]}' && {SHOWN}")
    assert browser.run("document.getElementById('sae-name').textContent") == "its-own"
    for name in ("../here", "//evil.example", "..", "a%2Fb"):
        visit(browser, f"{base}#/compare?with={name}&latent=5")
        until(browser, "document.querySelector('.sides').textContent.includes('not beside')")
        assert all("evil" not in url for url in browser.requests())


def test_an_index_of_the_same_name_is_not_taken_for_the_listed_sae(
    browser: Browser, tmp_path: Path
):
    """Folders of many SAEs have one name; the cosines are of one of them."""
    named = {"here": "0" * 16, "wider": "2" * 16, "right": made_contents.WIDER}
    for folder, fingerprint in named.items():
        made_contents.write(tmp_path / folder, 80, name="wider", fingerprint=fingerprint)
    with Running(application(served_indexes([tmp_path / name for name in named]))) as running:
        visit(browser, f"{running.url}here/#/compare?with=wider&latent=5")
        until(browser, "document.querySelectorAll('.sides .card').length === 4")
        link = browser.run("document.querySelectorAll('.card h3 a')[1].getAttribute('href')")
        assert link.startswith("../right/")
    with Running(application(served_indexes([tmp_path / n for n in ("here", "wider")]))) as running:
        visit(browser, f"{running.url}here/#/compare?with=wider&latent=5")
        until(browser, "document.querySelector('.sides').textContent.includes('another SAE')")
        assert browser.run("document.querySelectorAll('.sides .card').length") == 1
        assert browser.complaints() == []


def test_it_is_used_by_keyboard_alone(browser: Browser, base: str):
    visit(browser, base)
    until(browser, f"{ROWS} === 50")
    key(browser, "j")
    key(browser, "j")
    assert browser.run("document.activeElement.textContent") == "1"
    key(browser, "k")
    key(browser, "Enter")
    until(browser, "document.title.startsWith('Latent 0 ')")
    key(browser, "j")
    until(browser, "document.title.startsWith('Latent 1 ')")
    key(browser, "?")
    until(browser, "document.getElementById('help').open")
    key(browser, "Escape")
    until(browser, "!document.getElementById('help').open")
    until(browser, "!!document.querySelector('.latent .snippet mark')")
    browser.run("document.querySelector('.latent .snippet').focus()")
    key(browser, "ArrowRight")
    assert browser.run("document.activeElement.tagName") == "MARK"
    assert browser.run(
        "document.getElementById('bubble').textContent === "
        "document.activeElement.title && !document.getElementById('bubble').hidden"
    )
    key(browser, "/")
    until(browser, "document.activeElement.id === 'q'")
    for letter in "t12":
        key(browser, letter)
    until(browser, "location.hash === '#/search?q=t12'")
    key(browser, "Enter")
    until(browser, "document.title.startsWith('Latent ')")
    key(browser, "m")
    until(browser, "location.hash === '#/map'")
    assert browser.complaints() == []


@pytest.mark.parametrize("width", [1280, 768, 360])
def test_no_view_scrolls_sideways(browser: Browser, base: str, width: int):
    browser.resize(width)
    for view in (*VIEWS, "#/playground", "#/latent/3", "#/nowhere", "#/latent/999"):
        visit(browser, base + view)
        assert browser.run("document.documentElement.scrollWidth") <= width, view
    browser.resize(1280)


def test_addresses_that_lead_nowhere_say_so(browser: Browser, base: str):
    for view, said in (("#/latent/999", "There is no latent 999"), ("#/nowhere", "no such page")):
        visit(browser, base + view)
        assert said in browser.run("document.querySelector('main').textContent")


def test_wide_saes_from_disk_show_the_command(browser: Browser, tmp_path: Path):
    made_contents.write(tmp_path / "wide", 80)
    place_page(tmp_path / "wide")
    script = tmp_path / "wide" / "app" / "data.js"
    text = script.read_text()
    assert "LARGEST_FROM_DISK = 16384" in text
    script.write_text(text.replace("LARGEST_FROM_DISK = 16384", "LARGEST_FROM_DISK = 64"))
    url = f"{(tmp_path / 'wide').as_uri()}/index.html"
    visit(browser, f"{url}#/latent/5")
    said = browser.run("document.querySelector('main').textContent")
    assert "scopeworks latents serve wide" in said
    visit(browser, f"{url}#/search?q=t1")
    until(browser, f"{ROWS} > 0")
    assert browser.complaints() == []


def test_a_damaged_record_is_an_error_on_the_page(browser: Browser, tmp_path: Path):
    folder = tmp_path / "index"
    made_contents.write(folder, 80)
    place_page(folder)
    with Running(application(served_indexes([folder]))) as running:
        path = folder / "data" / "pages.bin"
        path.write_bytes(b"\xff" * path.stat().st_size)
        browser.send("Page.navigate", url=f"{running.url}index/#/latent/5")
        until(browser, "!!document.querySelector('[role=alert]')")
        said = browser.run("document.querySelector('[role=alert]').textContent")
        assert "latent 5's record is damaged" in said


def test_columns_that_are_missing_are_named(browser: Browser, tmp_path: Path):
    folder = tmp_path / "index"
    made_contents.write(folder, 80)
    place_page(folder)
    (folder / "data" / "search" / "00.js").unlink()
    browser.send("Page.navigate", url=f"{folder.as_uri()}/index.html")
    until(browser, "document.querySelector('.status')?.textContent.includes('cannot be read')")
    assert "00.js" in browser.run("document.querySelector('.status').textContent")


def test_nothing_moves_once_it_is_shown(browser: Browser, base: str):
    source = (
        "window.moved = 0; new PerformanceObserver(list => { for (const one of list.getEntries())"
        " window.moved += one.value; }).observe({ type: 'layout-shift', buffered: true })"
    )
    script = browser.send("Page.addScriptToEvaluateOnNewDocument", source=source)["identifier"]
    for width in (1280, 360):
        browser.resize(width)
        for view in ("#/search", "#/latent/5", "#/map"):
            visit(browser, base + view)
            time.sleep(0.5)
            assert browser.run("window.moved") < 0.01, view
    browser.send("Page.removeScriptToEvaluateOnNewDocument", identifier=script)
    browser.resize(1280)


def test_the_playground(browser: Browser, lm, tmp_path: Path):
    site = parse_site("resid_post.1")
    made_contents.write(tmp_path / "index", 48, site="resid_post.1", d_in=32, d_out=32)
    playground = Playground(lm, SteeredModel(lm.model, random_sae("resid_post.1"), site, site))
    app = application(
        served_indexes([tmp_path / "index"]), apis={"index": playground_api(playground)}
    )
    with Running(app) as running:
        visit(browser, f"{running.url}index/#/latent/7")
        browser.run("[...document.querySelectorAll('.steps a')].at(-1).click()")
        until(browser, "location.hash === '#/playground?latent=7'")
        until(browser, "document.querySelectorAll('.play .token').length > 3")
        until(browser, "document.querySelectorAll('.edits li').length === 1")
        assert browser.run("document.querySelector('.edits input').value") != "1"
        browser.run("document.querySelectorAll('.play .token')[2].click()")
        assert browser.run("document.querySelector('.firing h2').textContent").endswith(
            "(position 2)"
        )
        browser.run("document.querySelector('.firing .acts button').click()")
        until(browser, "document.querySelectorAll('.play mark').length > 0")
        browser.run("document.querySelectorAll('.firing .acts button')[1].click()")
        until(browser, "document.querySelectorAll('.edits li').length === 2")
        browser.run(
            "(() => { const f = document.querySelector('.edits input'); f.value = 60;"
            " f.dispatchEvent(new Event('change')); })()"
        )
        browser.run(
            "document.querySelectorAll('.playground .main')[1].click();"
            " document.getElementById('text').value = 'typed since'"
        )
        until(browser, "document.querySelectorAll('.result .card').length === 2")
        texts = browser.run("[...document.querySelectorAll('.result .card')].map(c => c.innerText)")
        assert texts[0].startswith("Unchanged") and texts[1].startswith("Changed")
        assert all("The old man" in text and "typed since" not in text for text in texts)
        assert texts[0].split("\n", 1)[1] != texts[1].split("\n", 1)[1]
        assert browser.run("document.querySelectorAll('.next tbody tr').length") >= 10
        browser.run("document.getElementById('text').value = 'a b '.repeat(900)")
        browser.run("document.querySelector('.playground .main').click()")
        until(browser, "document.querySelector('.error').textContent.includes('text must have 1')")
        said = [line for line in browser.complaints() if "400" not in line]
        assert said == []
