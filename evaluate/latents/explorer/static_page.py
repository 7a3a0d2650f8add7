"""The explorer's static page: the files that are copied into an index's folder.

Owns which they are. The page asks for nothing but files of that folder, so it also works from disk
and on any host.
"""

from pathlib import Path

from ....store.place.files import write_folder

STATIC = Path(__file__).parent / "static"

EXPLANATIONS = "data/explanations.js"
"""Later commands write it; without it the page would ask for what is not there."""

_LAST = "index.html"


def page_files() -> dict[str, bytes]:
    """The page, name -> content; without explanations."""
    paths = sorted(path for path in STATIC.rglob("*") if path.is_file())
    return {path.relative_to(STATIC).as_posix(): path.read_bytes() for path in paths}


def place_page(out: Path) -> None:
    """Copies the page into an index's folder; explanations that are there stay.

    Raises:
        OSError: naming the file that cannot be written.
    """
    files = page_files()
    if (out / EXPLANATIONS).is_file():
        files.pop(EXPLANATIONS)
    last = files.pop(_LAST)
    write_folder(out, {name: [content] for name, content in files.items()}, (_LAST, last))
