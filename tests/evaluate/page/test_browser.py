"""The page in a real browser: nothing asked for, nothing complained of, read on any screen.

Skipped, with the reason, where no Chromium is installed.
"""

import copy
from pathlib import Path

import pytest

from scopeworks.evaluate.page.report import write_report
from scopeworks.tests.evaluate.page.browser import Browser, program
from scopeworks.tests.evaluate.page.study_folder import write_study

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(program() is None, reason="no Chromium here: apt-get install chromium"),
]
HOSTILE = "<img src=//evil.example onerror=alert(1)>" + "x" * 60
WIDTHS = (1280, 768, 360)

TEXT_HEIGHTS = """
[...document.querySelectorAll("svg text")].map(text =>
  parseFloat(getComputedStyle(text).fontSize)
    * Math.hypot(text.getScreenCTM().a, text.getScreenCTM().b))
"""
CLASHES = """
[...document.querySelectorAll("figure svg")].flatMap(svg => {
  const texts = [...svg.querySelectorAll("text")];
  const boxes = texts.map(text => [text.textContent, text.getBoundingClientRect()]);
  const frame = svg.getBoundingClientRect(), found = [];
  boxes.forEach(([name, a], i) => {
    if (a.left < frame.left - 1 || a.right > frame.right + 1 || a.bottom > frame.bottom + 1)
      found.push(`${name} leaves its picture`);
    for (const [other, b] of boxes.slice(i + 1))
      if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
          Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 0.4 * a.height)
        found.push(`${name} covers ${other}`);
  });
  return found;
})
"""
COLUMN = (
    "[...document.querySelectorAll('#table > .scroll tbody tr')].map(r => r.cells[{}].innerText)"
)


@pytest.fixture(scope="module")
def page(evaluation, tmp_path_factory) -> Path:
    """A page with all sections, SAEs of two sites, hostile names, studies and warnings."""
    folder = tmp_path_factory.mktemp("page")
    other = copy.deepcopy(evaluation)
    for i, entry in enumerate(other["saes"]):
        entry |= {"name": f"{HOSTILE}{i}", "site": "mlp_out.2", "target_site": "mlp_out.2"}
        entry["warnings"] = [HOSTILE]
    other["saes"][0] |= {"recovered_share": None, "fvu": None}
    numbers = {"none": None, "share": 0.2, "p": 0.03125, "sites": 3, "change": [-0.5, -1, 0]}
    said = {"title": HOSTILE, "numbers": numbers}
    studies = [write_study(folder / name, **said) for name in ("width", "position")]
    return write_report(folder, [evaluation, other], HOSTILE, studies)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def opened(browser: Browser, page: Path) -> Browser:
    """The page, on a wide screen."""
    browser.show()
    browser.resize(1280)
    browser.open(page)
    return browser


def test_nothing_is_asked_for_and_nothing_complained_of(opened: Browser, page: Path):
    assert opened.requests() == [page.as_uri()]
    assert opened.complaints() == []
    assert opened.run("document.querySelectorAll('table.sortable button').length") > 10


def test_a_script_that_is_not_the_pages_own_does_not_run(opened: Browser):
    opened.run(
        "(() => { const s = document.createElement('script'); s.textContent = 'window.evil = 1';"
        " document.body.append(s); })()"
    )
    assert opened.run("window.evil === undefined")
    opened.run("new Image().src = 'http://127.0.0.1:9/x.png'")
    assert any("Content Security Policy" in line for line in opened.complaints())


def test_ids_are_unique_and_contents_lead_somewhere(opened: Browser):
    ids = opened.run("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids)) > 100
    links = opened.run("[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))")
    assert {"#frontier", "#studies", "#latents", "#table", "#provenance"} <= set(links)
    assert {link[1:] for link in links} <= set(ids)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_never_scrolls_sideways(opened: Browser, width: int):
    opened.resize(width)
    opened.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert opened.run("document.documentElement.scrollWidth") <= width
    inside = "[...document.querySelectorAll('figure, p, h1, h2, h3, summary, .snippet, li')]"
    assert opened.run(f"Math.max(...{inside}.map(e => e.getBoundingClientRect().right))") <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_text_in_charts_can_be_read_and_covers_no_other(opened: Browser, width: int):
    opened.resize(width)
    heights = opened.run(TEXT_HEIGHTS)
    assert len(heights) > 100
    assert min(heights) >= 11
    assert opened.run(CLASHES) == []


def test_a_click_sorts_by_number_and_a_second_one_the_other_way(opened: Browser):
    number = "Number(document.querySelectorAll('#table > .scroll tbody tr')[{}].cells[2].dataset.v)"
    head = "document.querySelectorAll('#table > .scroll thead th')[2]"
    for direction, sign in (("ascending", 1), ("descending", -1)):
        opened.run(f"{head}.querySelector('button').click()")
        assert opened.run(f"{head}.getAttribute('aria-sort')") == direction
        values = [opened.run(number.format(i)) for i in range(5)]
        assert values == sorted(values, key=lambda value: sign * value)
        assert opened.run(COLUMN.format(2))[5] == "–"


def test_a_studys_numbers_are_sorted_as_numbers_with_what_is_missing_last(opened: Browser):
    table = "document.querySelector('#study-width details table')"
    names = f"[...{table}.tBodies[0].rows].map(row => row.cells[0].textContent)"
    for wanted in (["change", "p", "share", "sites"], ["sites", "share", "p", "change"]):
        opened.run(f"{table}.querySelectorAll('thead button')[1].click()")
        assert opened.run(names) == [*wanted, "none"]


def test_the_keyboard_sorts_too_and_one_column_at_a_time(opened: Browser):
    opened.run("document.querySelector('#table > .scroll thead button').focus()")
    opened.press("Enter")
    names = opened.run(COLUMN.format(0))
    assert names == [f"{HOSTILE}{i}" for i in range(3)] + ["sae0", "sae1", "sae2"]
    opened.press("Tab")
    opened.press("Space")
    sorts = "[...document.querySelectorAll('#table > .scroll thead th')].map(h => h.ariaSort)"
    assert [one for one in opened.run(sorts) if one] == ["ascending"]
    assert opened.run(f"{sorts}[1]") == "ascending"


def test_without_scripts_the_page_reads_the_same(opened: Browser, page: Path):
    with_scripts = opened.run("document.body.innerText")
    opened.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        opened.open(page)
        assert opened.run("document.querySelectorAll('button').length") == 0
        assert opened.run("document.body.innerText") == with_scripts
    finally:
        opened.send("Emulation.setScriptExecutionDisabled", value=False)


def test_dark_text_is_light_and_paper_is_light_in_any_scheme(opened: Browser):
    colours = "['color', 'backgroundColor'].map(n => getComputedStyle(document.body)[n])"
    line = "getComputedStyle(document.querySelector('figure svg')).color"
    light = opened.run(colours)
    opened.show("dark")
    dark = opened.run(colours)
    assert dark != light and opened.run(line) == dark[0]
    opened.show("dark", "print")
    assert opened.run(colours) == light and opened.run(line) == light[0]


def test_paper_leaves_room_for_names_and_apart_what_stands_side_by_side(opened: Browser):
    opened.show("light", "print")
    opened.resize(1017)  # A4 on its side, without its margins
    assert opened.run("getComputedStyle(document.querySelector('#table')).page") == "wide"
    assert opened.run("document.querySelector('#table > .scroll tbody th').offsetWidth") >= 140
    last = "document.querySelector('#table > .scroll tbody tr').lastElementChild"
    assert opened.run(f"{last}.previousElementSibling.className") == "n"
    assert opened.run(f"parseFloat(getComputedStyle({last}).paddingLeft)") > 8
    assert opened.run("document.querySelector('#table > .scroll table').offsetWidth") <= 1017


def test_paper_has_every_picture_whole(opened: Browser, tmp_path: Path):
    opened.show("light", "print")
    opened.resize(718)  # A4 without its margins
    assert opened.run("document.documentElement.scrollWidth") <= 718
    breaks = "[...document.querySelectorAll('figure')].map(f => getComputedStyle(f).breakInside)"
    assert set(opened.run(breaks)) == {"avoid"}
    assert min(opened.run(TEXT_HEIGHTS)) >= 8  # CSS pixels of paper: 6 points
    opened.pdf(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
