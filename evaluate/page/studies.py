"""Studies on the page: a folder's reading and its figures, checked, and the section about them.

Owns what the page shows of a study. `saved.study_file` owns what a reading must hold; `study` owns
how a study is measured and read.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from ..saved.study_file import READING_FILE, PlotEntry, ReadingFile, read_reading
from . import markup
from .entries import natural
from .inline_svg import MAX_BYTES, inline
from .tables import Cell, table

_SIGNS = {"holds": "✓", "does not hold": "✗", "cannot be told": "?"}
_MAX_READING_BYTES = 2**20


@dataclass(frozen=True)
class ShownStudy:
    """A reading with its pictures, ready for a page."""

    reading: ReadingFile
    pictures: tuple[str, ...]


def read_study(folder: Path) -> ShownStudy:
    """Reads a study's folder.

    Raises:
        FileNotFoundError: there is no reading, or a plot that it names does not exist.
        ValueError: naming the reading or the plot that is damaged.
    """
    path = folder / READING_FILE
    if path.is_file():
        _check_size(path, _MAX_READING_BYTES)
    reading = read_reading(folder)
    return ShownStudy(reading, tuple(_picture(folder, plot) for plot in reading.plots))


def counted(studies: Sequence[ShownStudy]) -> str:
    """How many claims hold, in one line."""
    found = [study.reading.verdict for study in studies]
    parts = [f"{found.count(v)} {_said(v, found.count(v))}" for v in _SIGNS if v in found]
    noun = "study" if len(found) == 1 else "studies"
    return f"{len(found)} {noun} of the report's claims: {', '.join(parts)}."


def section(studies: Sequence[ShownStudy]) -> str:
    """All studies: a table of the claims, then each by itself."""
    if not studies:
        return ""
    rows = [
        [s.reading.title, _verdict(s.reading.verdict), _places(s.reading.figures)] for s in studies
    ]
    caption = "The report's claims, and whether the numbers of these SAEs support them."
    overview = table(["study", "verdict", "in the report"], rows, caption)
    body = (overview if len(studies) > 1 else "") + "".join(map(_one, studies))
    return markup.section("studies", "Studies", body)


def _one(study: ShownStudy) -> str:
    """One study: claim, verdict, sentence, figures; test and numbers folded."""
    reading = study.reading
    mark = reading.verdict.replace(" ", "-")
    of = f"In the report: {_places(reading.figures)}." if reading.figures else ""
    on = f" Measured on {reading.text} with {reading.model}." if reading.model else ""
    drawn = zip(study.pictures, (plot.caption for plot in reading.plots), strict=True)
    rows = [[name, _number(value)] for name, value in reading.numbers.items()]
    numbers = table(["number", "value"], rows, "The numbers behind the sentence.")
    return (
        f'<article id="study-{escape(reading.study)}" class="study">'
        f"<h3>{escape(reading.title)}</h3>"
        f'<p><span class="verdict {mark}">{escape(_verdict(reading.verdict))}</span> '
        f"{escape(reading.sentence)}</p>"
        f'<p class="quiet">Claim: {escape(reading.claim)} {escape(of + on)}</p>'
        f"{markup.figures(*drawn)}"
        f"{markup.folded('Test and numbers', markup.paragraph(reading.test) + numbers)}</article>"
    )


def _picture(folder: Path, plot: PlotEntry) -> str:
    path = folder / f"{plot.name}.svg"
    if not path.is_file():
        raise FileNotFoundError(f"study {folder} names the plot {plot.name}, but not {path.name}")
    _check_size(path, MAX_BYTES)
    return inline(path.read_bytes(), plot.caption, f"plot {path}")


def _check_size(path: Path, most: int) -> None:
    """Refuses a file that is too large for a page, before it is read."""
    if (size := path.stat().st_size) > most:
        raise ValueError(f"{path} must have at most {most:,} bytes, got {size:,}")


def _places(figures: Sequence[str]) -> str:
    """The parts of the report that a study answers: figures by number, others by name."""
    numbers = [name for name in figures if name[:1].isdecimal()]
    parts = [f"figure{'s' * (len(numbers) > 1)} {', '.join(numbers)}"] if numbers else []
    return ", ".join(parts + [name for name in figures if name not in numbers]) or "–"


def in_order(study: ShownStudy) -> tuple[bool, list[tuple[int, str]]]:
    """A key that sorts studies by their first figure of the report, those without one last."""
    text = ", ".join(study.reading.figures)
    return not text[:1].isdecimal(), natural(text)


def _verdict(verdict: str) -> str:
    """The verdict with a sign, so that colour is not the only mark."""
    return f"{_SIGNS[verdict]} {verdict}"


def _said(verdict: str, n: int) -> str:
    """The verdict with a verb that fits the number."""
    if n == 1:
        return verdict
    return {"holds": "hold", "does not hold": "do not hold"}.get(verdict, verdict)


def _number(value: Any) -> str | Cell:
    """A value of a reading as a cell; it sorts by the number, of an estimate by the first one."""
    first: Any = value[0] if isinstance(value, list) and value else value
    if isinstance(first, bool) or not isinstance(first, int | float):
        return _shown(value)
    return Cell(_shown(value), float(first))


def _shown(value: Any) -> str:
    """A number with six digits, text as it is, a dash for None, anything else as JSON."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
