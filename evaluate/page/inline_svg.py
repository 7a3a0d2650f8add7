"""An SVG file as an element of a page: shapes and text only, no scripts and no requests.

Owns what reaches the page from a file that anyone may have written: known elements, attributes and
style properties, references inside the picture, and ids that no other picture of the page has.
The plain colours of `svg` become the page's own, so that a picture is readable in light and dark.
"""

import math
import re
from xml.etree import ElementTree

from ...foreign import one_line, short

MAX_BYTES = 2 * 2**20
"""Limit of one file: a page with a dozen of them still opens on a phone."""
_MAX_ELEMENTS = 50_000
_DROPPED = {"metadata", "style"}
_ELEMENTS = re.compile(
    "svg|g|defs|path|rect|circle|ellipse|line|polyline|polygon|text|tspan|title|desc|use|clipPath"
)
_PAINT = re.compile(
    "fill|fill-opacity|fill-rule|opacity|stroke|stroke-(width|linecap|linejoin|dasharray|dashoffset"
    "|miterlimit|opacity)|font-(size|weight|style)|text-anchor|clip-path|clip-rule"
)
_GEOMETRY = re.compile(
    "d|x|y|dx|dy|width|height|cx|cy|r|rx|ry|x1|x2|y1|y2|points|transform|viewBox|clipPathUnits"
)
_VALUE = re.compile(r"(url\(#[\w.:-]+\)|rgba?\([\d\s.,%]*\)|[#\w\s.,%+-])*")
_SHORTHAND = re.compile(r"(?:(bold|\d00) )?([\d.]+px)\b")
_PREFIX = "f-"
_THEME = {
    "#222222": "currentColor",
    "#000000": "currentColor",
    "#dddddd": "var(--grid)",
    "#ffffff": "var(--page)",
}


def inline(data: bytes, alt: str, where: str) -> str:
    """The `<svg>` element of a file, to be put in an HTML page.

    Args:
        data: the file, UTF-8.
        alt: text for readers who cannot see the picture; plain text.
        where: the file's name, for errors.

    Raises:
        ValueError: it is no SVG, too large, or holds more than shapes and text.
    """
    root = _parsed(data, where)
    box = _view_box(root, where)
    for parent in list(root.iter()):
        for child in list(parent):
            if _name(child) in _DROPPED:
                parent.remove(child)
    elements = list(root.iter())
    if len(elements) > _MAX_ELEMENTS:
        raise ValueError(f"{where} must have at most {_MAX_ELEMENTS:,} elements")
    for element in elements:
        if not _ELEMENTS.fullmatch(name := _name(element)):
            raise ValueError(f"{where} must hold shapes and text only, got <{short(name)}>")
        element.tag = name
        kept = _attributes(element)
        element.attrib.clear()
        element.attrib.update(kept)
        element.tail = None if name not in ("tspan",) else element.tail
    root.attrib.clear()
    root.attrib.update({"viewBox": box, "role": "img", "aria-label": alt})
    try:
        return ElementTree.tostring(root, encoding="unicode")
    except RecursionError as error:
        raise ValueError(f"{where} is nested too deeply") from error


def numbered(page: str) -> str:
    """The page with ids that differ between its pictures, also if one is shown twice."""
    parts = re.split(r"(<svg .*?</svg>)", page, flags=re.DOTALL)
    for i in range(1, len(parts), 2):
        parts[i] = re.sub(rf'(id="|href="#|url\(#){_PREFIX}', rf"\g<1>f{i // 2 + 1}-", parts[i])
    return "".join(parts)


def _parsed(data: bytes, where: str) -> ElementTree.Element:
    """The file's root. A document type is allowed, entities are not."""
    if len(data) > MAX_BYTES:
        raise ValueError(
            f"{where} must have at most {MAX_BYTES:,} bytes, got {len(data):,}; draw fewer points"
        )
    try:
        text = data.decode("utf-8")
        if "<!ENTITY" in text:
            raise ValueError("it defines entities")
        root = ElementTree.fromstring(text)
    except (ValueError, ElementTree.ParseError) as error:
        raise ValueError(f"{where} is no SVG that a page can hold: {one_line(error)}") from error
    if _name(root) != "svg":
        raise ValueError(f"{where} is no SVG, got <{short(_name(root))}>")
    return root


def _view_box(root: ElementTree.Element, where: str) -> str:
    """The picture's own coordinates (`viewBox`), which a page needs to scale it."""
    try:
        numbers = [float(text) for text in root.get("viewBox", "").replace(",", " ").split()]
    except ValueError:
        numbers = []
    fits = len(numbers) == 4 and all(map(math.isfinite, numbers)) and min(numbers[2:]) > 0
    if not fits:
        raise ValueError(f"{where} must have a viewBox of four numbers")
    return " ".join(f"{number:g}" for number in numbers)


def _name(element: ElementTree.Element) -> str:
    """An element's name without its namespace."""
    return str(element.tag).rpartition("}")[2]


def _attributes(element: ElementTree.Element) -> dict[str, str]:
    """The attributes of an element that are kept."""
    kept: dict[str, str] = {}
    for full, value in element.attrib.items():
        name = full.rpartition("}")[2]
        if name == "id":
            kept["id"] = _PREFIX + value
        elif name == "href" and value.startswith("#"):
            kept["href"] = f"#{_PREFIX}{value[1:]}"
        elif name == "style":
            kept["style"] = _style(value)
        elif _PAINT.fullmatch(name) and _VALUE.fullmatch(value):
            kept[name] = _themed(value)
        elif _GEOMETRY.fullmatch(name):
            kept[name] = value
    return kept


def _style(text: str) -> str:
    """Known properties of a style. Of a font only size and weight: the page sets the family."""
    kept = []
    for part in text.split(";"):
        name, _, value = (piece.strip() for piece in part.partition(":"))
        if name == "font" and (found := _SHORTHAND.match(value)):
            kept.append(f"font-size: {found[2]}")
            kept += [f"font-weight: {found[1]}"] if found[1] else []
        elif _PAINT.fullmatch(name) and _VALUE.fullmatch(value):
            kept.append(f"{name}: {_themed(value)}")
    return "; ".join(kept)


def _themed(value: str) -> str:
    """A value with the page's colours, and with references to this picture's own ids."""
    return _THEME.get(value.lower(), value).replace("url(#", f"url(#{_PREFIX}")
