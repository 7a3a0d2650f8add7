"""Status: how far a suite is, step by step.

Owns the table and its JSON. The outputs show what is done; the records show which steps run, how
long they took and their errors.
"""

from dataclasses import asdict, dataclass
from typing import Any

from ..steps.table import steps_of
from ..suite.outputs import Outputs
from ..suite.settings import AnySuite, SuiteFile
from .records import records_of


@dataclass(frozen=True)
class Row:
    """One step.

    Attributes:
        step: name.
        state: done, running, failed, stopped or waiting.
        done: pieces that are done.
        total: pieces in all.
        unit: what a piece is.
        n_bytes: bytes of the pieces; None if not known.
        seconds: seconds of the last run of each share, added up; None if there are no records.
        error: error of the first share that failed; None if the step is done.
    """

    step: str
    state: str
    done: int
    total: int
    unit: str
    n_bytes: int | None
    seconds: float | None
    error: str | None


def suite_status(suite: AnySuite) -> list[Row]:
    """The state of every step of a suite; writes only the suite's `digests.json`.

    Args:
        suite: a suite file's path, a preset's name, or a `SuiteFile`.

    Raises:
        ValueError, OSError: suite, model or texts cannot be read.
    """
    outputs = Outputs(SuiteFile.of(suite))
    rows = []
    for step in steps_of(outputs.suite):
        there, records = step.state(outputs), records_of(outputs.out, step.name)
        states = {record.state for record in records}
        shown = next((s for s in ("running", "failed", "stopped") if s in states), "waiting")
        errors = [record.error for record in records if record.state == "failed"]
        seconds = sum(record.seconds for record in records) if records else None
        rows.append(
            Row(
                step.name,
                "done" if there.complete else shown,
                there.done,
                there.total,
                there.unit,
                there.n_bytes,
                seconds,
                errors[0] if errors and not there.complete else None,
            )
        )
    return rows


def as_json(file: SuiteFile, rows: list[Row]) -> dict[str, Any]:
    """The table as JSON values."""
    return {"suite": file.suite.name, "steps": [asdict(row) for row in rows]}


def as_lines(rows: list[Row]) -> list[str]:
    """The table as text: a line for each step, and a line for its error."""
    lines = []
    for row in rows:
        size = "" if row.n_bytes is None else f"{row.n_bytes / 1e6:,.1f} MB"
        took = "" if row.seconds is None else f"{row.seconds:,.1f} s"
        pieces = f"{row.done:,}/{row.total:,} {row.unit}"
        lines.append(f"{row.step:<10} {row.state:<8} {pieces:<18} {size:>14} {took:>12}".rstrip())
        if row.error:
            lines.append(f"           {row.error}")
    return lines
