"""Documents that were changed on purpose, with checksums that are right again, and what readers and
`verify` make of them.

Case n of a seed is always the same. Used by tests/store/test_forged_stores.py and, at length,
by benchmarks/mutations.py.
"""

import copy
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from scopeworks.store import ActivationStore, TokenStore
from scopeworks.store.format.commits import commit_key
from scopeworks.store.tools.verify import verify_store
from scopeworks.tests.store.forging import forge
from scopeworks.tests.store.making import make_store

REFUSED, READ = "refused in one line", "read"
MISSED = "refused, NOT FOUND by verify"

VALUES: list[Any] = [
    *(None, True, -1, 0, 1, 2**31, 2**63, 2**70, -(2**70), 10**30, 1.5, 1e308),
    *("", "x", "AAAA", "9" * 5000, "../..", "\0", [], {}, [[]], {"a": {}}, [1] * 1000),
]
"""What an entry may become."""

PLACES = ["root", "commit", "int8 commit", "tokens"]


def outcome(seed: int, case: int) -> tuple[str, str]:
    """Makes and judges a case: which document, what came of it. Any error but the reader's own
    escapes."""
    random = Random(f"{seed} {case}")
    place = random.choice(PLACES)
    path = _document(place, random)
    sound = path.read_bytes()
    try:
        forge(path, lambda attributes: _change(attributes, random))
        return f"{place} document", _read(place)
    finally:
        path.write_bytes(sound)


@cache
def _folder() -> Path:
    """Sound stores, one of every kind, of this process."""
    folder = Path(tempfile.mkdtemp(prefix="scopeworks-documents-"))
    Finalize(None, shutil.rmtree, (folder,), exitpriority=0)  # in forked children as well
    make_store(folder / "exact")
    make_store(folder / "int8", codec="int8")
    tokens = TokenStore.create(folder / "tokens", context=16, bos=1, eos=None, pad=0)
    tokens.write({"train": np.zeros((20, 16), np.uint32)})
    return folder


def _document(place: str, random: Random) -> Path:
    store = _folder() / {"int8 commit": "int8", "tokens": "tokens"}.get(place, "exact")
    return store / (commit_key(random.choice((0, 3))) if "commit" in place else "zarr.json")


def _read(place: str) -> str:
    """Reads all that there is, and lets `verify` judge it."""
    url = _folder() / {"int8 commit": "int8", "tokens": "tokens"}.get(place, "exact")
    try:
        _read_tokens(url) if place == "tokens" else _read_rows(url)
    except (ValueError, OSError) as error:
        assert "\n" not in str(error)
        return REFUSED if place == "tokens" or _is_found(url) else MISSED
    if place != "tokens":
        _is_found(url)
    return READ


def _read_tokens(url: Path) -> None:
    tokens = TokenStore.open(url)
    assert tokens.fingerprint
    for split in tokens.splits:
        assert tokens.sequences(split)[:].size


def _read_rows(url: Path) -> None:
    store = ActivationStore.open(url)
    for site in store.sites:
        store.read(site, 0, store.rows)
    store.labels(0, store.rows)


def _is_found(url: Path) -> bool:
    """Whether `verify` has something to say."""
    try:
        return bool(verify_store(url).problems)
    except (ValueError, OSError) as error:
        assert "\n" not in str(error)
        return True


def _change(attributes: dict[str, Any], random: Random) -> None:
    """One or two entries, anywhere: removed, doubled, moved a little, or something else."""
    for _ in range(random.choice((1, 1, 2))):
        *way, last = random.choice([path for path in _paths(attributes) if path])
        holder: Any = attributes
        for name in way:
            holder = holder[name]
        kind = random.randrange(10)
        if kind < 2:
            del holder[last]
        elif kind < 4 and isinstance(holder, dict):
            holder["new"] = holder[last]
        elif kind < 4:
            holder.append(copy.deepcopy(holder[last]))
        elif kind < 6 and isinstance(holder[last], int):
            holder[last] += random.choice((-1, 1, 2**20, -(2**40)))
        else:
            holder[last] = copy.deepcopy(random.choice(VALUES))


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every entry."""
    yield path
    if isinstance(value, dict | list):
        for name in value if isinstance(value, dict) else range(len(value)):
            yield from _paths(value[name], (*path, name))
