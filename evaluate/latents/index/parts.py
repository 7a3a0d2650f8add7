"""Parts: the cut of the pass into pieces, and the file of each piece.

Owns the rows of a part, which depend on the store only; the facts that decide the content of a
part's file; and the files. Any process leaves the same bytes for a part, so a stopped pass
continues with the missing parts.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ....store import ActivationStore
from ....store.format.spec import LABEL_NAMES
from ....store.place.files import write_file
from ....store.place.locate import locate
from ....train.sae.tensor_file import file_parts, read_metadata, read_tensors

FOLDER = "parts"
MOST = 16

_OURS = re.compile(r"(count|fill)-\d\d\.safetensors|examples\.safetensors")

_VERSION = 1
"""Version of the content of a part's file."""


@dataclass(frozen=True)
class IndexPart:
    """Rows [start, stop) of the store: whole buckets.

    Rows are shuffled within a bucket. A sequence is in one bucket, except at the bucket's borders.

    Attributes:
        number: the part's number, from 0.
        start: first row.
        stop: end of the rows.
        beyond: end of the next bucket, in which a snippet at the border continues; equal to `stop`
            if the next bucket is in another part or does not exist.
    """

    number: int
    start: int
    stop: int
    beyond: int

    def rows(self, also_beyond: bool) -> int:
        """Number of rows, with or without the next bucket's."""
        return (self.beyond if also_beyond else self.stop) - self.start


def parts_of(store: ActivationStore, rows: int | None) -> list[IndexPart]:
    """The first `rows` rows, rounded up to whole buckets, in at most 16 parts of nearly equally
    many buckets."""
    ends = np.cumsum([commit.rows for commit in store.commits], dtype=np.int64).tolist()
    stops = ends[: _n_buckets(store, rows)]
    n = min(MOST, len(stops))
    cuts = [0, *(stops[(i + 1) * len(stops) // n - 1] for i in range(n))]
    beyond = [*cuts[1:n], ends[min(len(stops), len(ends) - 1)]]
    return [IndexPart(i, cuts[i], cuts[i + 1], beyond[i]) for i in range(n)]


def _n_buckets(store: ActivationStore, rows: int | None) -> int:
    """Number of committed buckets that hold the first `rows` rows."""
    ends = np.cumsum([commit.rows for commit in store.commits], dtype=np.int64)
    return len(ends) if rows is None else min(len(ends), int(np.searchsorted(ends, rows)) + 1)


def rows_digest(store: ActivationStore, site: str, rows: int | None) -> str:
    """16 hexadecimal digits over the rows that are read and their labels, by the checksums in their
    commits."""
    names = (f"sites/{site}", *(f"labels/{name}" for name in LABEL_NAMES))
    n = _n_buckets(store, rows)
    commits = [
        [c.bucket, c.rows, [[list(asdict(r).values()) for r in c.shards[n]] for n in names]]
        for c in store.commits[: n + 1]  # and the one that `IndexPart.beyond` reads
    ]
    return digest([site, n, commits])


def digest(facts: Any) -> str:
    """16 hexadecimal digits over JSON values."""
    text = json.dumps(facts, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


class PartFiles:
    """The parts' files in the folder of an index."""

    def __init__(self, out: Path, facts: dict[str, Any]):
        """`facts` decide the content of the files, as JSON values."""
        self._folder = out / FOLDER
        self._facts = {name: str(value) for name, value in facts.items()}
        self._facts["version"] = str(_VERSION)
        self._location = locate(str(self._folder))

    def check(self) -> None:
        """Refuses parts of other inputs.

        Raises:
            ValueError: there is one; the error names what differs.
        """
        for path in sorted(self._folder.glob("*.safetensors")):
            try:
                found = read_metadata(self._location, path.name)
            except (ValueError, OSError):
                continue  # a damaged file is made again
            changed = [n for n, v in self._facts.items() if found.get(n) != v]
            if changed:
                raise ValueError(
                    f"out must be empty or hold parts of the same index, got {path} of another "
                    f"{' and '.join(changed)}; remove {self._folder} or pass another folder"
                )

    def has(self, name: str, key: str = "") -> bool:
        """Whether a file exists, whole and with this key."""
        try:
            found = read_metadata(self._location, f"{name}.safetensors")
        except (ValueError, OSError):
            return False
        return found == self._facts | {"key": key}

    def write(self, name: str, tensors: dict[str, torch.Tensor], key: str = "") -> None:
        """Writes a file, atomically.

        Raises:
            OSError: naming it.
        """
        parts = file_parts(tensors, self._facts | {"key": key})
        write_file(self._folder / f"{name}.safetensors", parts)

    def read(self, name: str) -> dict[str, torch.Tensor]:
        """The tensors of a file.

        Raises:
            ValueError, OSError: it cannot be read.
        """
        try:
            return read_tensors(self._location, f"{name}.safetensors")[1]
        except ValueError as error:
            path = self._folder / f"{name}.safetensors"
            raise ValueError(f"{path} is damaged: {error}; remove it and run again") from error

    def missing(
        self, stage: str, parts: Collection[IndexPart], key: str = ""
    ) -> Iterator[IndexPart]:
        """The parts without a file of this stage."""
        return (part for part in parts if not self.has(name_of(stage, part), key))

    def remove(self) -> None:
        """Removes all files of parts, and their folder if it is empty then."""
        for path in self._folder.glob("*.safetensors"):
            if _OURS.fullmatch(path.name):
                path.unlink(missing_ok=True)
        with suppress(OSError):
            self._folder.rmdir()


def name_of(stage: str, part: IndexPart) -> str:
    """Name of a part's file of a stage, without the ending."""
    return f"{stage}-{part.number:02d}"
