"""The page of findings, as Markdown: figure of the report → command → figure here → reading.

Owns the page that `scopeworks study … --findings FILE` writes from the readings in a suite's
folder, and the copies of figures beside it.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from ...evaluate.saved.study_file import ReadingFile, read_minutes, read_reading
from ...evaluate.studies.table import STUDIES
from ...evaluate.study.study import Study
from ...store.place.files import check_can_be_written, check_is_replaced, write_file

_MARK = "This page is written by the command"
"""In every page of findings: a file without it is not replaced by one."""

_HEAD = """\
# Findings

What `scopeworks study all {suite}` found, study by study: the report's claim, what these SAEs say
about it, and by which test. Model: {models}. Text: {texts}.
Files of a study and their meaning: [studies](studies.md). This page is written by the command

    scopeworks study all {suite} --findings {name}

"""
_MINUTES = """\

## Minutes

Minutes of each study's last run that made something, on the machine that it ran on; what another
study had made before was not made again.

| study | minutes |
|---|---|
"""


def check_findings(path: Path) -> None:
    """Checks, before hours of work, that the page can be written, and replaces no other file.

    Raises:
        ValueError, OSError: naming the path.
    """
    check_can_be_written(path, "findings")
    check_is_replaced(path, "findings", "a page of findings", lambda data: _MARK.encode() in data)


def write_findings(path: Path, out: Path, suite: str) -> None:
    """Writes the page, with the figures' SVG files in `figures/` beside it.

    Args:
        path: the page's file.
        out: the suite's folder.
        suite: the suite, as it was given on the command line.

    Raises:
        ValueError: no study has been run.
    """
    found = {}
    for study in STUDIES:
        folder = out / "studies" / study.name
        if (folder / "reading.json").is_file():
            found[study.name] = read_reading(folder)
    if not found:
        raise ValueError(f"findings must be of a study that has been run, got none in {out}")
    figures, old = path.parent / "figures", _shown_before(path)
    for name, reading in found.items():
        for plot in reading.plots:
            svg = (out / "studies" / name / f"{plot.name}.svg").read_bytes()
            write_file(figures / f"{name}-{plot.name}.svg", svg)
    new = {f"{name}-{plot.name}.svg" for name, r in found.items() for plot in r.plots}
    for name in old - new:
        (figures / name).unlink(missing_ok=True)
    minutes = {name: read_minutes(out / "studies" / name) for name in found}
    write_file(path, page(found, minutes, suite, os.fspath(path)).encode())


def page(
    found: dict[str, ReadingFile], minutes: dict[str, float | None], suite: str, name: str
) -> str:
    """The page's text."""
    models = _each_once((reading.model for reading in found.values()), ", ")
    texts = _each_once((reading.text for reading in found.values()), "; ")
    head = _HEAD.format(suite=suite, models=models, texts=texts, name=name)
    table = "| report | command | figure | verdict | reading |\n|---|---|---|---|---|\n"
    known = [study for study in STUDIES if study.name in found]
    rows = "".join(_row(study, found[study.name], suite) for study in known)
    missing = [study.name for study in STUDIES if study.name not in found]
    left = f"\nNot run: {', '.join(missing)}.\n" if missing else ""
    details = "".join(_details(study.name, found[study.name]) for study in known)
    times = "".join(f"| {n} | {_minutes(m)} |\n" for n, m in minutes.items() if m is not None)
    return head + table + rows + left + _MINUTES + times + details


def _row(study: Study, reading: ReadingFile, suite: str) -> str:
    """One study in the table."""
    figures = ", ".join(study.figures)
    shown = f"[{study.name}](#{study.name})"
    command = f"`scopeworks study {study.name} {suite}`"
    return f"| {figures} | {command} | {shown} | {reading.verdict} | {reading.sentence} |\n"


def _details(name: str, reading: ReadingFile) -> str:
    """One study with its figures."""
    lines = [
        f"\n## {name}\n\n{reading.title}\n",
        f"- Claim: {reading.claim}",
        f"- Reading: **{reading.verdict}**. {reading.sentence}",
        f"- Test: {reading.test}.\n",
    ]
    shown = [f"![{p.caption}](figures/{name}-{p.name}.svg)\n\n{p.caption}\n" for p in reading.plots]
    return "\n".join([*lines, *shown])


def _minutes(value: float) -> str:
    """Minutes of a run in words; a study whose SAEs were evaluated before takes seconds."""
    return f"{value:.1f}" if value >= 0.1 else "under 0.1"


def _each_once(lists: Iterable[str], separator: str) -> str:
    """Joined lists as one joined list without repeats."""
    return separator.join(dict.fromkeys(one for many in lists for one in many.split(separator)))


def _shown_before(path: Path) -> set[str]:
    """Names of the studies' figures that the old page shows. Only these may be removed: other files
    beside them are not ours."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    prefixes = tuple(f"{study.name}-" for study in STUDIES)
    names = re.findall(r"\]\(figures/([\w-]+\.svg)\)", text)
    return {name for name in names if name.startswith(prefixes)}
