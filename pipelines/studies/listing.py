"""The table of `scopeworks study list`: studies, their figures, minutes and verdicts."""

from collections.abc import Sequence
from pathlib import Path

from ...evaluate.saved.study_file import readings_in
from ...evaluate.study.study import Study


def lines(studies: Sequence[Study], out: Path | None) -> list[str]:
    """The studies as an aligned table; with a suite's folder `out`, with the verdicts there."""
    found = {} if out is None else {r.study: r.verdict for r in readings_in(out).values()}
    head = ("study", "figures of the report", "minutes", *(["found"] if out else []), "question")
    rows = [
        (
            one.name,
            ", ".join(one.figures),
            f"{one.minutes:g}",
            *([found.get(one.name, "not run")] if out else []),
            one.title,
        )
        for one in studies
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [head, *rows]
    ]
    return [*table, "minutes: estimates for the demo on two cores, each study alone"]
