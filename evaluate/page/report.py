"""The report: evaluation JSONs and studies -> one HTML file that needs nothing else.

Owns the file and the order of its parts. The first screen is in `answer`, the other sections are in
`sections`, `studies` and `tables`, pieces of markup in `markup`, plots in `plots`.
"""

import base64
import hashlib
import json
import mimetypes
import os
import re
from collections.abc import Sequence
from copy import deepcopy
from html import escape, unescape
from pathlib import Path
from typing import Any

from ...arguments import several
from ...foreign import short
from ...store.place.files import check_can_be_written, check_is_replaced, local_path, write_file
from ..saved.evaluation_file import given_evaluations
from . import markup, sections, tables
from .answer import answer
from .entries import marked, ordered
from .inline_svg import numbered
from .studies import ShownStudy, in_order, read_study
from .studies import section as study_section

_HEAD = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
)
"""How every report begins: a file that begins otherwise is not replaced by one."""

_TITLE = re.compile(r'<section id="([\w-]+)"[^>]*><h2[^>]*>([^<]*)</h2>')


def write_report(
    out: str | os.PathLike[str],
    evaluations: Sequence[dict[str, Any] | str | os.PathLike[str]]
    | dict[str, Any]
    | str
    | os.PathLike[str],
    title: str = "Sparse autoencoders, evaluated",
    studies: Sequence[str | os.PathLike[str]] | str | os.PathLike[str] = (),
) -> Path:
    """Writes a self-contained page about all SAEs of some evaluations.

    Args:
        out: the HTML file, new or an earlier report; or a folder for `report.html`.
        evaluations: results of `evaluate`, or the JSON files it wrote; one or several.
        title: the page's heading.
        studies: folders that a study wrote, each with its `reading.json` and plots; one or
            several.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: an evaluation or a study does not exist.
        ValueError: a file is damaged or of another kind, a study or an evaluation is given twice,
            no evaluation is given, or out is a file of something else.
    """
    if not isinstance(title, str):
        raise ValueError(f"title must be text, got {short(repr(title))}")
    loaded = given_evaluations(evaluations)
    if not loaded:
        raise ValueError("evaluations must be given at least once, got none; run evaluate first")
    _check_each_once(loaded)
    found = _read_studies(several(studies))
    path = _page_path(out)
    write_file(path, render(_joined([one for _, one in loaded]), title, found).encode())
    return path


def _page_path(out: str | os.PathLike[str]) -> Path:
    """The path of the page, which must be new or an earlier report.

    Raises:
        OSError: it cannot be written.
        ValueError: it is at a URL, or there is another file.
    """
    try:
        path = local_path(Path(out))
    except ValueError as error:
        raise ValueError(f"out {error}, got {out}") from error
    is_file = mimetypes.guess_type(path)[0] is not None and not path.is_dir()
    if is_file and path.suffix != ".html":
        raise ValueError(f"out must be a file that ends in .html, or a folder, got {out}")
    if path.suffix != ".html":
        path = path / "report.html"
    check_can_be_written(path, "out")
    check_is_replaced(path, "out", "a report", lambda data: data.startswith(_HEAD.encode()))
    return path


def _check_each_once(evaluations: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Refuses an SAE that would be counted twice.

    Raises:
        ValueError: naming the SAE and where it is.
    """
    seen: dict[bytes, str] = {}
    for place, evaluation in evaluations:
        shared = json.dumps(_without_saes(evaluation) | {"seconds": None}, sort_keys=True)
        for entry in evaluation["saes"]:
            text = f"{shared}{json.dumps(entry, sort_keys=True)}"
            if (one := hashlib.sha256(text.encode()).digest()) in seen:
                name = short(entry["name"])
                raise ValueError(
                    f"evaluations must each be given once, got SAE {name} twice, in {seen[one]} "
                    f"and in {place}"
                )
            seen[one] = place


def _read_studies(folders: Sequence[str | os.PathLike[str]]) -> list[ShownStudy]:
    """The studies, each once, in the order of the report's figures."""
    found = [read_study(Path(folder)) for folder in folders]
    names = [study.reading.study for study in found]
    if double := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"studies must each be given once, got {min(double)} twice")
    return sorted(found, key=in_order)


def render(
    evaluations: list[dict[str, Any]], title: str, studies: Sequence[ShownStudy] = ()
) -> str:
    """The page as text."""
    evaluations = marked(evaluations)
    entries = ordered(entry for evaluation in evaluations for entry in evaluation["saes"])
    parts = [
        sections.frontiers(entries),
        study_section(studies),
        sections.positions(evaluations),
        sections.firing(entries),
        sections.top_activations(entries),
        tables.importance(entries),
        tables.subsets(evaluations),
        sections.training(entries),
        tables.sae_table(evaluations, entries),
        sections.provenance(evaluations),
    ]
    titles = [found.groups() for part in parts if (found := _TITLE.search(part))]
    body = "\n".join(
        [
            f"<header><h1>{escape(title)}</h1></header>\n<main>",
            answer(evaluations, entries, studies),
            markup.contents((anchor, unescape(name)) for anchor, name in titles),
            *parts,
            "</main>",
        ]
    )
    return _page(title, numbered(body))


def _joined(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Evaluations that differ only in their SAEs, joined to one."""
    together: dict[str, dict[str, Any]] = {}
    for document in found:
        apart = json.dumps(_without_saes(document), sort_keys=True)
        if apart not in together:
            together[apart] = deepcopy(document)
            continue
        other = together[apart]
        other["saes"] += document["saes"]
        other["baselines"] |= document["baselines"]
        for name, subset in document.get("subsets", {}).items():
            other["subsets"][name]["saes"] += subset["saes"]
    return list(together.values())


def _without_saes(document: dict[str, Any]) -> dict[str, Any]:
    """The part that evaluations must have in common to be joined."""
    subsets = {
        name: {key: value for key, value in subset.items() if key != "saes"}
        for name, subset in document.get("subsets", {}).items()
    }
    kept = {key: v for key, v in document.items() if key not in ("saes", "baselines")}
    return kept | {"subsets": subsets}


def _page(title: str, body: str) -> str:
    """The document around the body.

    Its policy (CSP) makes the browser refuse any request, and any script but the page's own.
    """
    here = Path(__file__).parent
    css = (here / "report.css").read_text(encoding="utf-8")
    script = (here / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"{_HEAD}style-src 'unsafe-inline'; script-src 'sha256-{digest}'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>\n<style>\n{css}</style></head>\n"
        f"<body>\n{body}\n<script>{script}</script></body></html>\n"
    )
