"""Unused stores: the stores at a place that no given suite refers to.

Owns the comparison. It removes nothing: suites that were not given may use the stores.
"""

from collections.abc import Sequence

from ...store.place.locate import locate
from ...store.place.place import Place
from ...store.tools.catalogue import ListedStore, catalogue
from ..steps.harvest import cover
from ..suite.outputs import Outputs
from ..suite.settings import SuiteFile


def unused(files: Sequence[SuiteFile], place: Place) -> list[ListedStore]:
    """The token stores and activation stores at a place that no suite in `files` reads or makes.

    Raises:
        ValueError, OSError: a suite, its texts or the place cannot be read.
    """
    used = {url for file in files for url in _referred(Outputs(file))}
    return [entry for entry in catalogue(place) if entry.url not in used]


def line(entry: ListedStore) -> str:
    """One store as a line of text: URL, sites, size, error."""
    size = "size not known" if entry.stored_bytes is None else f"{entry.stored_bytes / 1e9:,.3f} GB"
    what = ", ".join(entry.spec.sites) if entry.spec is not None else entry.kind
    return f"{entry.url}: {what}; {size}" + (f"; {entry.error}" if entry.error else "")


def _referred(outputs: Outputs) -> set[str]:
    """URLs of a suite's token store and of all activation stores that it reads or would make."""
    found = {locate(outputs.tokens).url}
    for number in range(len(outputs.sites)):
        there = cover(outputs, number)
        found |= {entry.url for entry in there.entries}
        if there.missing:
            found.add(locate(outputs.store(number, list(there.missing))).url)
    return found
