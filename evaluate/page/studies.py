"""Studies on the page: a folder's reading and its figures, checked, and the section about them.

Owns what a study's folder must hold to be shown: `reading.json` and an SVG of each plot that it
names. What a study measures and how it is read is `study`'s.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ...foreign import Document, read_document
from . import markup
from .inline_svg import MAX_BYTES, inline
from .tables import table

READING_FILE = "reading.json"
Verdict = Literal["holds", "does not hold", "cannot be told"]
_SIGNS: dict[Verdict, str] = {"holds": "✓", "does not hold": "✗", "cannot be told": "?"}
_MAX_READING_BYTES = 2**20

Line = Annotated[str, Field(max_length=300)]
Text = Annotated[str, Field(max_length=3000)]
FileName = Annotated[str, Field(pattern=r"^\w[\w.-]{0,99}$")]


class _Plot(Document):
    name: FileName
    caption: Text


class Reading(Document):
    """What a study says: the claim that it tests, and what the numbers make of it."""

    study: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
    figures: list[Line] = Field(max_length=20)
    """Of the report, which the study remakes."""
    title: Line
    claim: Text
    verdict: Verdict
    sentence: Text
    test: Text
    numbers: dict[str, Any]
    plots: list[_Plot] = Field(max_length=24)
    model: Line = ""
    text: Line = ""


@dataclass(frozen=True)
class Study:
    """A reading with its pictures, ready for a page."""

    reading: Reading
    pictures: tuple[str, ...]


def read_study(folder: Path) -> Study:
    """Reads a study's folder.

    Raises:
        FileNotFoundError: there is no reading, or a plot that it names is not there.
        ValueError: the reading or a plot does not hold what it must; one line that names the file.
    """
    path = folder / READING_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"study {folder} must be a folder with {READING_FILE}; pass one that scopeworks study "
            "wrote, such as OUT/studies/frontier"
        )
    reading = read_document(Reading, _bytes(path, _MAX_READING_BYTES), f"study {path}")
    return Study(reading, tuple(_picture(folder, plot) for plot in reading.plots))


def counted(studies: Sequence[Study]) -> str:
    """How many claims hold, in one line."""
    found = [study.reading.verdict for study in studies]
    parts = [f"{found.count(v)} {_said(v, found.count(v))}" for v in _SIGNS if v in found]
    noun = "study" if len(found) == 1 else "studies"
    return f"{len(found)} {noun} of the report's claims: {', '.join(parts)}."


def section(studies: Sequence[Study]) -> str:
    """All studies: a table of the claims, then each by itself."""
    if not studies:
        return ""
    rows = [
        [s.reading.title, _verdict(s.reading.verdict), ", ".join(s.reading.figures) or "–"]
        for s in studies
    ]
    caption = "What the report claims, and whether the numbers of these SAEs bear it out."
    overview = table(["study", "verdict", "figure of the report"], rows, caption)
    body = (overview if len(studies) > 1 else "") + "".join(map(_one, studies))
    return markup.section("studies", "Studies", body)


def _one(study: Study) -> str:
    """One study: claim, verdict, sentence, figures; test and numbers folded."""
    reading = study.reading
    mark = reading.verdict.replace(" ", "-")
    of = f"Remakes figure {', '.join(reading.figures)} of the report." if reading.figures else ""
    on = f" Measured on {reading.text} with {reading.model}." if reading.model else ""
    drawn = zip(study.pictures, (plot.caption for plot in reading.plots), strict=True)
    rows = [[name, _shown(value)] for name, value in reading.numbers.items()]
    numbers = table(["number", "value"], rows, "The numbers that the sentence goes by.")
    return (
        f'<article id="study-{escape(reading.study)}" class="study">'
        f"<h3>{escape(reading.title)}</h3>"
        f'<p><span class="verdict {mark}">{escape(_verdict(reading.verdict))}</span> '
        f"{escape(reading.sentence)}</p>"
        f'<p class="quiet">Claim: {escape(reading.claim)} {escape(of + on)}</p>'
        f"{markup.figures(*drawn)}"
        f"{markup.folded('Test and numbers', markup.paragraph(reading.test) + numbers)}</article>"
    )


def _picture(folder: Path, plot: _Plot) -> str:
    path = folder / f"{plot.name}.svg"
    if not path.is_file():
        raise FileNotFoundError(f"study {folder} names the plot {plot.name}, but not {path.name}")
    return inline(_bytes(path, MAX_BYTES), plot.caption, f"plot {path}")


def _bytes(path: Path, most: int) -> bytes:
    """A file's bytes, if they are not too many."""
    if (size := path.stat().st_size) > most:
        raise ValueError(f"{path} must have at most {most:,} bytes, got {size:,}")
    return path.read_bytes()


def _verdict(verdict: Verdict) -> str:
    """The word with a sign, so that it is not told by colour alone."""
    return f"{_SIGNS[verdict]} {verdict}"


def _said(verdict: Verdict, n: int) -> str:
    """The verdict with a verb that fits the number."""
    if n == 1:
        return verdict
    return {"holds": "hold", "does not hold": "do not hold"}.get(verdict, verdict)


def _shown(value: Any) -> str:
    """A number of a reading, six digits of it; anything else as JSON."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
