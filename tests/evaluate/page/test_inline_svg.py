"""Of an SVG file, shapes and text reach the page: nothing that acts, asks or clashes."""

import re

import pytest

from scopeworks.evaluate.page import inline_svg
from scopeworks.evaluate.page.inline_svg import inline, numbered

BOX = 'viewBox="0 0 10 5"'


def svg(inside: str, attributes: str = BOX) -> bytes:
    return f'<svg xmlns="http://www.w3.org/2000/svg" {attributes}>{inside}</svg>'.encode()


def test_shapes_and_text_are_kept_and_the_rest_of_a_file_is_not():
    head = '<?xml version="1.0" encoding="utf-8"?><!DOCTYPE svg PUBLIC "-//W3C" "http://w3.org/x">'
    data = svg('<metadata>m</metadata><style>*{}</style><path d="M 0 0"/><text x="1">a</text>')
    assert inline(head.encode() + data, 'a "title"', "f") == (
        '<svg viewBox="0 0 10 5" role="img" aria-label="a &quot;title&quot;">'
        '<path d="M 0 0" /><text x="1">a</text></svg>'
    )


def test_colours_of_a_file_become_the_pages():
    data = svg('<path style="fill: #ffffff; stroke: #222222"/><g fill="#DDDDDD"/>')
    shown = inline(data, "", "f")
    assert 'style="fill: var(--page); stroke: currentColor"' in shown
    assert 'fill="var(--grid)"' in shown


def test_a_font_gives_its_size_and_weight_only():
    shown = inline(svg("<text style=\"font: 700 12px 'DejaVu Sans', url(x)\">a</text>"), "", "f")
    assert '<text style="font-size: 12px; font-weight: 700">' in shown


@pytest.mark.parametrize(
    "attribute",
    [
        'onclick="alert(1)"',
        'href="javascript:alert(1)"',
        'fill="url(http://evil.example/x)"',
        'style="fill: url(//evil.example)"',
        'style="background: red"',
        'style="fill: expression(alert(1))"',
        'class="verdict"',
    ],
)
def test_attributes_that_act_or_ask_are_left_out(attribute: str):
    shown = inline(svg(f'<g {attribute} d="M 1 1"/>'), "", "f")
    assert re.search(r'<g (style="" )?d="M 1 1" />', shown)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (svg("<script>alert(1)</script>"), "must hold shapes and text only, got <script>"),
        (svg("<image/>"), "shapes and text only, got <image>"),
        (svg("<a><text>b</text></a>"), "shapes and text only, got <a>"),
        (svg("<foreignObject/>"), "shapes and text only, got <foreignObject>"),
        (b"<html/>", "figure is no SVG, got <html>"),
        (b"no markup", "figure is no SVG that a page can hold: syntax error"),
        (b"\xff\xfe\x00", "no SVG that a page can hold: 'utf-8' codec"),
        (svg("", 'viewBox="0 0 0 1"'), "must have a viewBox of four numbers"),
        (svg("", 'viewBox="a b c d"'), "must have a viewBox of four numbers"),
        (svg("", 'viewBox="0 0 1 1e999"'), "must have a viewBox of four numbers"),
        (svg("<g>" * 5000 + "</g>" * 5000), "figure is nested too deeply"),
        (b'<!DOCTYPE svg [<!ENTITY a "b">]>' + svg("&a;"), "it defines entities"),
    ],
)
def test_other_files_are_refused(data: bytes, message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        inline(data, "", "figure")


def test_large_files_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="at most 2,097,152 bytes, got 2,097,2"):
        inline(svg("") + b" " * inline_svg.MAX_BYTES, "", "f")
    monkeypatch.setattr(inline_svg, "_MAX_ELEMENTS", 3)
    assert inline(svg("<g/><g/>"), "", "f")
    with pytest.raises(ValueError, match="must have at most 3 elements"):
        inline(svg("<g/><g/><g/>"), "", "f")


def test_a_picture_shown_twice_has_ids_of_its_own_each_time():
    data = svg('<defs><path id="a" d="M"/></defs><use href="#a"/><g clip-path="url(#a)"/>')
    page = numbered(f"<p>f-1</p>{inline(data, '', 'f')}<p>f-2</p>{inline(data, '', 'f')}")
    assert re.findall(r' id="([^"]*)"', page) == ["f1-a", "f2-a"]
    assert re.findall(r'href="([^"]*)"', page) == ["#f1-a", "#f2-a"]
    assert re.findall(r"url\(([^)]*)", page) == ["#f1-a", "#f2-a"]
    assert "<p>f-1</p>" in page and "<p>f-2</p>" in page


def test_black_lines_take_the_pages_colour():
    drawn = inline_svg.inline(
        b'<svg viewBox="0 0 9 9"><path d="M0 0" style="stroke: #000000; fill: none"/></svg>',
        "x",
        "x",
    )
    assert "stroke: currentColor" in drawn
