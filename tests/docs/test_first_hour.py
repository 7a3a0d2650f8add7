"""The notebook of the first hour runs as it stands, and is kept as it looks after a run."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "first_hour.ipynb"
LINK = re.compile(r"\]\((?!https?:)([^)#]+)[^)]*\)")
MOST_BYTES = 150_000
N_FIGURES = 2


def read(path: Path) -> NotebookNode:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def outputs_of(notebook: NotebookNode) -> list[NotebookNode]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def n_figures(notebook: NotebookNode) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs_of(notebook))


def test_what_is_kept_is_small_and_no_machines():
    notebook, text = read(NOTEBOOK), NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < MOST_BYTES and n_figures(notebook) == N_FIGURES
    kinds = {(output.output_type, output.get("name")) for output in outputs_of(notebook)}
    assert kinds <= {("stream", "stdout"), ("display_data", None), ("execute_result", None)}
    assert re.findall(r"site-packages|/home/|/tmp/|0x[0-9a-f]{8}", text) == []


def test_links_lead_to_files():
    cells = [cell.source for cell in read(NOTEBOOK).cells if cell.cell_type == "markdown"]
    links = LINK.findall("\n".join(cells))
    assert links and [link for link in links if not (NOTEBOOK.parent / link).exists()] == []


@pytest.mark.slow
def test_every_cell_runs(tmp_path):
    out = tmp_path / "again.ipynb"
    command = [sys.executable, str(ROOT / "scripts" / "notebook.py"), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    again = read(out)
    assert n_figures(again) == N_FIGURES
    assert [cell.source for cell in again.cells] == [cell.source for cell in read(NOTEBOOK).cells]
