"""Runs docs/first_hour.ipynb in a folder of its own and keeps what its cells show.

    python scripts/notebook.py                   # writes docs/first_hour.ipynb again
    python scripts/notebook.py --out other.ipynb

What is a machine's own is left out: progress lines, times, warnings (all that goes to stderr) and
the editor's notes. A cell that fails ends the script with its traceback, and nothing is written.
"""

import argparse
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "first_hour.ipynb"
SECONDS_A_CELL = 600


def executed(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """The notebook with what its cells show when they run in the folder, one after the other."""
    client = NotebookClient(
        notebook,
        timeout=SECONDS_A_CELL,
        kernel_name="python3",
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    return client.execute()


def tidy(notebook: NotebookNode) -> NotebookNode:
    """The same without what differs from one machine or editor to another."""
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number:02}", NotebookNode()
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = NotebookNode(kernelspec=kernel, language_info={"name": "python"})
    return notebook


def main() -> None:
    """Parses, runs, writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, default=NOTEBOOK)
    out: Path = parser.parse_args().out
    if not out.parent.is_dir():
        parser.error(f"out must be in a folder that exists, got {out}")
    with tempfile.TemporaryDirectory() as folder:
        notebook = tidy(executed(nbformat.read(NOTEBOOK, as_version=4), Path(folder)))
    nbformat.validate(notebook)
    nbformat.write(notebook, out)


if __name__ == "__main__":
    main()
