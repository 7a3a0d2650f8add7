"""Matplotlib figures: files, and inline SVG that takes font and colours from the page around it.

Owns the look of every plot and the cleaning of matplotlib's SVG: no XML header, no metadata, no
address of another server, ids that differ between the plots of one page. What is plotted is
`plots`' business.
"""

import hashlib
import io
import re
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
"""Okabe and Ito's palette, told apart with any colour vision, without its black and yellow: each
shows on white and on near-black."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 2)))

_TEXT, _GRID = "#010203", "#040506"
_WIDTH_INCHES, _HEIGHT_INCHES = 4.9, 3.3
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "scopeworks",
    "text.parse_math": False,
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _TEXT,
    "axes.labelcolor": _TEXT,
    "axes.titlesize": 11,
    "axes.titlecolor": _TEXT,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "text.color": _TEXT,
    "xtick.color": _TEXT,
    "ytick.color": _TEXT,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "legend.handlelength": 2.6,
    "errorbar.capsize": 2,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
}


def draw(plot: Callable[["Axes"], None], alt: str, height: float = _HEIGHT_INCHES) -> str:
    """Draws on one pair of axes and returns an `<svg>` element for the inside of an HTML page.

    Args:
        plot: draws on the axes it is given.
        alt: what the plot shows, for those who cannot see it; plain text.
        height: inches; the width is always the same, so that all plots have one text size.
    """
    svg = _drawn(plot, height, _STYLE, "svg", transparent=True)
    digest = hashlib.blake2b(svg + alt.encode(), digest_size=4).hexdigest()
    return _clean(svg.decode(), alt, f"p{digest}")


def picture(plot: Callable[["Axes"], None], format: Literal["svg", "png"]) -> bytes:
    """Draws on one pair of axes and returns a file that stands alone, dark on white; the same plot
    gives the same bytes."""
    colours = {_TEXT: "#222222", _GRID: "#DDDDDD"}
    style = {
        name: colours.get(value, value) if isinstance(value, str) else value
        for name, value in _STYLE.items()
    }
    return _drawn(plot, _HEIGHT_INCHES, style, format, dpi=160)


def _drawn(
    plot: Callable[["Axes"], None],
    height: float,
    style: dict[Any, Any],
    format: str,
    **options: Any,
) -> bytes:
    """A figure as a file, without a word on when and by what it was made."""
    import matplotlib
    from matplotlib.figure import Figure

    names = ("Software",) if format == "png" else ("Creator", "Date", "Format", "Type")
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(_WIDTH_INCHES, height), layout="constrained")
        plot(figure.add_subplot())
        buffer = io.BytesIO()
        figure.savefig(buffer, format=format, metadata=dict.fromkeys(names), **options)
    return buffer.getvalue()


def _clean(svg: str, alt: str, prefix: str) -> str:
    """Matplotlib's file as an element of a page."""

    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    view = re.search(r'viewBox="[^"]*"', svg)
    assert view is not None
    svg = f'<svg {view[0]} role="img"><title>{escape(alt)}</title>' + svg[svg.index(">") + 1 :]
    svg = svg.replace("xlink:href", "href").replace('id="', f'id="{prefix}-')
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}-", svg)
    # The page's own font; matplotlib has used one only to find out how much room text takes.
    svg = re.sub(r"font: (?:bold )?([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    return svg.replace(_TEXT, "currentColor").replace(_GRID, "var(--grid)").strip()
