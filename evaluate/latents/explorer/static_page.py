"""The explorer's static page: the files that are copied into an index's folder.

Owns the list of these files. The page reads only files of that folder, so it also works from disk
and on any host.
"""

from pathlib import Path

from ....store.place.files import write_folder

STATIC = Path(__file__).parent / "static"

EXPLANATIONS = "data/explanations.js"
"""Holds no explanations at first, so that the page finds a file; later commands write it again."""

_LAST = "index.html"


def page_files() -> dict[str, bytes]:
    """The page's files, name -> content; the file of explanations is empty."""
    paths = sorted(path for path in STATIC.rglob("*") if path.is_file())
    return {path.relative_to(STATIC).as_posix(): path.read_bytes() for path in paths}


def place_page(out: Path) -> None:
    """Copies the page into an index's folder; keeps explanations that are already there.

    Raises:
        OSError: a file cannot be written; the text names it.
    """
    files = page_files()
    if (out / EXPLANATIONS).is_file():
        files.pop(EXPLANATIONS)
    last = files.pop(_LAST)
    write_folder(out, {name: [content] for name, content in files.items()}, (_LAST, last))
