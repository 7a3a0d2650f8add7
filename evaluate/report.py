"""The report: evaluation JSONs -> one HTML file that needs nothing else.

Owns the file and the page's order. What each section says is `sections`', pieces of markup are
`markup`'s, plots are `plots`'.
"""

import json
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..store.files import write_file
from ..train.settings import local_path
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
    loaded = [e if isinstance(e, dict) else read_evaluation(Path(e)) for e in evaluations]
    if not loaded:
        raise ValueError("evaluations must be given at least once, got none; run evaluate first")
    try:
        path = local_path(Path(out))
    except ValueError as error:
        raise ValueError(f"out {error}, got {out}") from error
    if path.suffix != ".html":
        path = path / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, render(loaded, title).encode())
    return path


def read_evaluation(path: Path) -> dict[str, Any]:
    """Reads what `evaluate` wrote.

    Raises:
        FileNotFoundError, ValueError: naming the file and what is wrong with it.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"evaluation {path} does not exist; pass the --out file of scopeworks evaluate"
        )
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"evaluation {path} must be JSON: {error}") from error
    missing = {"saes", "clean", "baselines", "model", "tokens", "settings"} - set(
        value if isinstance(value, dict) else ()
    )
    if missing:
        raise ValueError(
            f"evaluation {path} must be a result of scopeworks evaluate, "
            f"got JSON without {', '.join(sorted(missing))}"
        )
    return value


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
