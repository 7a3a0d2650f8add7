"""A study's files: points as CSV, plots as SVG and PNG, the reading as JSON.

Owns how they are written. All plots are drawn before the first file is written. `reading.json`,
which marks the study as finished, is renamed into place last.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...store.place.files import json_bytes, write_folder
from ..page.svg import picture
from ..saved.study_file import POINT_COLUMNS, POINTS_FILE, READING_FILE, ReadingFile
from .study import Documents, Plot, Point, Reading, Study, Value


@dataclass(frozen=True)
class Finding:
    """A finished study: the content of its files."""

    study: Study
    points: list[Point]
    reading: Reading
    plots: list[Plot]
    model: str
    text: str


def find(study: Study, documents: Documents) -> Finding:
    """Points, reading and plots of a study's evaluations.

    Raises:
        LackError: SAEs that the study needs are missing.
    """
    points = study.points(documents)
    reading = study.read(points)
    return Finding(study, points, reading, study.plots(points), *_measured_on(documents))


def write_finding(folder: Path, finding: Finding) -> None:
    """Writes a study's folder, and deletes figures that only an earlier run had.

    Raises:
        OSError: naming the file that could not be written.
    """
    files = {POINTS_FILE: points_csv(finding.points)}
    for plot in finding.plots:
        files[f"{plot.name}.svg"] = picture(plot.draw, "svg")
        files[f"{plot.name}.png"] = picture(plot.draw, "png")
    last = json_bytes(reading_json(finding))
    write_folder(folder, {name: [data] for name, data in files.items()}, (READING_FILE, last))
    for path in folder.iterdir():
        if path.suffix in (".svg", ".png") and path.name not in files:
            path.unlink()


def reading_json(finding: Finding) -> dict[str, Any]:
    """What `reading.json` holds: no path, host or time."""
    study, reading = finding.study, finding.reading
    value = {
        "study": study.name,
        "figures": list(study.figures),
        "title": study.title,
        "claim": study.claim,
        "verdict": reading.verdict,
        "sentence": reading.sentence,
        "test": reading.test,
        "numbers": reading.numbers,
        "plots": [{"name": plot.name, "caption": plot.caption} for plot in finding.plots],
        "model": finding.model,
        "text": finding.text,
    }
    ReadingFile.model_validate(value)
    return value


def points_csv(points: Sequence[Point]) -> bytes:
    """The points as CSV (RFC 4180): the study's columns, then value, low, high, n."""
    columns = list(dict.fromkeys(name for point in points for name in point.where))
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*columns, *POINT_COLUMNS])
    for point in points:
        own = [point.where.get(name) for name in columns]
        writer.writerow(map(_cell, [*own, point.value, point.low, point.high, point.n]))
    return buffer.getvalue().encode()


def _cell(value: Value) -> str:
    """A CSV cell: seven significant digits, empty for None."""
    if value is None:
        return ""
    return f"{value:.7g}" if isinstance(value, float) else str(value)


def _measured_on(documents: Documents) -> tuple[str, str]:
    """The language models and the text, in words."""
    found = [document for many in documents.values() for document in many]
    models = dict.fromkeys(document["model"]["name"].rsplit("/", 1)[-1] for document in found)
    texts = dict.fromkeys(document.get("text") or _sequences(document) for document in found)
    return ", ".join(models), "; ".join(texts)


def _sequences(document: dict[str, Any]) -> str:
    """The text of an evaluation, in words."""
    tokens = document["tokens"]
    return f"{tokens['n_sequences']:,} held-out sequences of {tokens['context']:,} tokens"
