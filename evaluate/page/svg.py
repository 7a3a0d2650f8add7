"""Matplotlib figures as files, and as inline SVG with the font and colours of the page.

Owns the look of every plot: colours with line and marker shapes, sizes, axis names, the legend.
Text is 12 units high in a picture 353 wide, so it is readable on a phone. The caller draws the
data.
"""

import io
import math
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from ...train.frontier import plain_log_axis
from .inline_svg import inline

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#C4608F", "#B57A00", "#3A93C9", "#7F7F7F")
"""After Okabe and Ito's palette, whose colours differ for any colour vision. Black and yellow are
left out and light ones darkened, so that each has a contrast of 3 on white and on near-black."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 2)))

_TEXT, _GRID = "#222222", "#DDDDDD"
_WIDTH_INCHES, _HEIGHT_INCHES = 4.9, 3.3
_LINE_CHARACTERS, _LINE_INCHES = 46, 0.22
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "scopeworks",
    "text.parse_math": False,
    "font.size": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _TEXT,
    "axes.labelcolor": _TEXT,
    "axes.titlesize": 12,
    "axes.titlecolor": _TEXT,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "text.color": _TEXT,
    "xtick.color": _TEXT,
    "ytick.color": _TEXT,
    "legend.frameon": False,
    "legend.fontsize": 12,
    "legend.handlelength": 2.8,
    "legend.labelspacing": 0.35,
    "errorbar.capsize": 3,
    "lines.linewidth": 1.8,
    "lines.markersize": 6,
}


def draw(plot: Callable[["Axes"], None], alt: str, height: float = _HEIGHT_INCHES) -> str:
    """Draws on one pair of axes and returns an `<svg>` element to be put in an HTML page.

    Args:
        plot: draws on the axes it is given. The label of its y axis is moved above the axes, where
            it is not turned.
        alt: text for readers who cannot see the plot; plain text.
        height: inches without the legend's lines. The width is always the same, so that all plots
            have one text size.
    """
    return inline(picture(plot, "svg", height), alt, alt)


def picture(
    plot: Callable[["Axes"], None], format: Literal["svg", "png"], height: float = _HEIGHT_INCHES
) -> bytes:
    """Draws on one pair of axes and returns an SVG or PNG file, dark on white.

    The file does not record when or by what it was made: the same plot gives the same bytes.
    """
    import matplotlib
    from matplotlib.figure import Figure

    names = ("Software",) if format == "png" else ("Creator", "Date", "Format", "Type")
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH_INCHES, height), layout="constrained")
        axes = figure.add_subplot()
        plot(axes)
        _name_axes(axes)
        _plain_ticks(axes)
        buffer = io.BytesIO()
        figure.savefig(buffer, format=format, metadata=dict.fromkeys(names), dpi=160)
    return buffer.getvalue()


def look(i: int, every: int | None = None) -> dict[str, Any]:
    """Colour, line and marker of the i-th series: no two differ by colour alone.

    Args:
        every: number of points of a long curve, of which only a few are marked; None marks all.
    """
    i %= len(COLOURS)
    style = {"color": COLOURS[i], "linestyle": LINES[i], "marker": MARKERS[i]}
    if every is None:
        return style
    step = max(1, math.ceil(every / 6))
    return style | {"markevery": (i * step // len(COLOURS), step), "markersize": 5}


def legend(axes: "Axes") -> None:
    """The legend of several series, below the plot; inside, it would cross a curve.

    The figure grows by the legend's height.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    _, labels = axes.get_legend_handles_labels()
    if len(labels) < 2:
        return
    n_columns = 1 if max(map(len, labels)) > 18 else 2
    n_lines = -(-len(labels) // n_columns)
    figure.set_figheight(figure.get_figheight() + _LINE_INCHES * n_lines)
    figure.legend(loc="outside lower left", ncols=n_columns)


def power_of_ten(exponent: int) -> str:
    """10⁻³ in characters that every font has."""
    digits = "⁰¹²³⁴⁵⁶⁷⁸⁹"
    sign = "⁻" if exponent < 0 else ""
    return "10" + sign + "".join(digits[int(d)] for d in str(abs(exponent)))


def _name_axes(axes: "Axes") -> None:
    """Puts the y axis' label above the axes, and breaks labels that are wider than the plot."""
    if axes.get_ylabel() and not axes.get_title("left"):
        axes.set_title(_broken(axes.get_ylabel()))
        axes.set_ylabel("")
    axes.set_xlabel(_broken(axes.get_xlabel()))


def _plain_ticks(axes: "Axes") -> None:
    """Plain numbers on logarithmic axes that still have matplotlib's own labels.

    Those are set in mathematical type, which a page does not have.
    """
    from matplotlib.ticker import LogFormatter

    if isinstance(axes.xaxis.get_major_formatter(), LogFormatter):
        plain_log_axis(axes, "x")
    if isinstance(axes.yaxis.get_major_formatter(), LogFormatter):
        plain_log_axis(axes, "y")


def _broken(text: str) -> str:
    return "\n".join(textwrap.wrap(text, _LINE_CHARACTERS))
