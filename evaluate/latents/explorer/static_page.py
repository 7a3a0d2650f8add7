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


def page_files(out: Path | None = None) -> dict[str, bytes]:
    """The page, name -> content.

    Args:
        out: the index's folder; explanations that are there already are not among the files.
    """
    paths = sorted(path for path in STATIC.rglob("*") if path.is_file())
    files = {path.relative_to(STATIC).as_posix(): path.read_bytes() for path in paths}
    if out is not None and (out / EXPLANATIONS).is_file():
        files.pop(EXPLANATIONS)
    return files


def place_page(out: Path) -> None:
    """Copies the page into an index's folder; explanations that are there stay.

    Raises:
        OSError: naming the file that cannot be written.
    """
    files = page_files(out)
    last = files.pop(_LAST)
    write_folder(out, {name: [content] for name, content in files.items()}, (_LAST, last))
