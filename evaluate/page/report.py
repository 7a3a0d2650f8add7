"""The report: evaluation JSONs -> one HTML file that needs nothing else.

Owns the file and the page's order. What each section says is `sections`', pieces of markup are
`markup`'s, plots are `plots`'.
"""

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from ...store.place.files import check_can_be_written, local_path, write_file
from ..evaluation_file import checked, read_evaluation
from . import plots, sections


def write_report(
    out: str | os.PathLike[str],
    evaluations: Sequence[dict[str, Any] | str | os.PathLike[str]],
    title: str = "Sparse autoencoders, evaluated",
) -> Path:
    """Writes a self-contained page about all SAEs of some evaluations.

    Args:
        out: the HTML file, or a folder for `report.html`.
        evaluations: results of `evaluate`, or the JSON files it wrote.
        title: the page's heading.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: an evaluation is not there.
        ValueError: a file is not an evaluation, or none is given.
    """
    loaded = [
        checked(e, f"evaluations[{i}]") if isinstance(e, dict) else read_evaluation(Path(e))
        for i, e in enumerate(evaluations)
    ]
    if not loaded:
        raise ValueError("evaluations must be given at least once, got none; run evaluate first")
    try:
        path = local_path(Path(out))
    except ValueError as error:
        raise ValueError(f"out {error}, got {out}") from error
    if path.suffix != ".html":
        path = path / "report.html"
    check_can_be_written(path, "out")
    write_file(path, render(loaded, title).encode())
    return path


def render(evaluations: list[dict[str, Any]], title: str) -> str:
    """The page as text."""
    entries = [entry for evaluation in evaluations for entry in evaluation["saes"]]
    entries.sort(key=lambda entry: (plots.slot(entry), entry["l0"]))
    css = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    body = "\n".join(
        [
            f"<h1>{escape(title)}</h1>",
            sections.summary(evaluations, entries),
            sections.sae_table(evaluations, entries),
            sections.frontiers(entries),
            sections.firing(entries),
            sections.training(entries),
            sections.positions(evaluations),
            sections.subsets(evaluations),
            sections.importance(entries),
            sections.top_activations(entries),
            sections.provenance(evaluations),
        ]
    )
    # The policy makes the browser itself refuse to fetch anything.
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title>\n<style>\n{css}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )
