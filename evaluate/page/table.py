"""Tables of a page: cells with their intervals, and what a column is sorted by.

A table is read without a script. Where the page's script runs, it makes every column of a
`sortable` table sort: a cell's `data-v` is its value, a cell without one comes last.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from .entries import Entry, interval
from .markup import number

_UNBROKEN = 24
"""Characters of a text cell that stay on one line."""


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: what is shown.
        value: what it is sorted by; None for text, which is sorted by itself, and for what is
            missing.
        error: half of the interval's length, as text, where it is known.
        title: shown when pointed at.
    """

    text: str
    value: float | None = None
    error: str = ""
    title: str = ""


def figure(entry: Entry, metric: str, digits: int, share: bool = False, sign: bool = False) -> Cell:
    """A measured figure with its 95% interval: ± half of its length, and both ends when pointed
    at; a dash where there is no figure."""
    value = entry.get(metric)
    form = f".{digits}{'%' if share else 'f'}"
    found = interval(entry, metric)
    if value is None or found is None:
        return Cell(number(value, ("+" if sign else "") + form), value)
    low, high = found
    half = (
        format((high - low) / 2, f".{digits}f") if not share else f"{50 * (high - low):.{digits}f}"
    )
    return Cell(
        format(value, ("+" if sign else "") + form),
        value,
        f"± {half}",
        f"95% interval {low:{form}} to {high:{form}}",
    )


def plain(value: float | None, text: str) -> Cell:
    """A number shown as this text; a dash where there is none."""
    return Cell(text if value is not None else "–", value)


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str | Cell]], n_text: int, caption: str
) -> str:
    """A table in a box that scrolls, its first `n_text` columns text and the others numbers.

    Columns in which no row has anything are left out, but not the first.
    """
    cells = [[c if isinstance(c, Cell) else Cell(c) for c in row] for row in rows]
    shown = [
        i for i in range(len(columns)) if i == 0 or any(row[i].text not in "–" for row in cells)
    ]
    head = "".join(
        f'<th scope="col"{" class=n" if i >= n_text else ""}>{escape(columns[i])}</th>'
        for i in shown
    )
    body = "".join(
        f"<tr>{''.join(_cell(row[i], i >= n_text, i == 0) for i in shown)}</tr>" for row in cells
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption[:60])}">'
        f'<table class="sortable"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f'<p class="quiet">{escape(caption)}</p>'
    )


def _cell(cell: Cell, is_number: bool, is_head: bool) -> str:
    """A cell's markup; the first of a row names the row."""
    tag = "th" if is_head else "td"
    marks = ' scope="row"' if is_head else ""
    marks += " class=n" if is_number else " class=k" if len(cell.text) <= _UNBROKEN else ""
    if is_number and cell.value is not None:
        marks += f' data-v="{cell.value!r}"'
    if cell.title:
        marks += f' title="{escape(cell.title)}"'
    error = f"<small>{escape(cell.error)}</small>" if cell.error else ""
    return f"<{tag}{marks}>{escape(cell.text)}{error}</{tag}>"
