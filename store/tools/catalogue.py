"""The catalogue of a place: its activation and token stores, complete, unfinished or broken.

Looks at the place and at the folders directly in it. Reads only roots, lists and commit records,
never a row.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal

from ...foreign import one_line, parse_json
from ..format.commits import committed_buckets, read_commits
from ..format.root import KEY, read_root
from ..format.spec import DOCUMENT_BYTES, FORMAT, StoreSpec
from ..place.locate import locate
from ..place.location import Location, StorageOptions, read_bounded
from ..place.place import AnyPlace, Place
from ..tokens import FORMAT as TOKENS
from ..tokens import MARKER, TokenStore
from ..which_rows import rows_key

_LOOKING = 16
"""Folders looked at in parallel."""


@dataclass(frozen=True)
class ListedStore:
    """One store of a catalogue; entries that could not be read are None."""

    url: str
    kind: Literal["activations", "tokens", "unreadable"]
    spec: StoreSpec | None = None
    """Spec of an activation store, with its provenance."""
    tokens: TokenStore | None = None
    """A complete token store, opened."""
    n_committed: int = 0
    """Committed buckets of an activation store."""
    complete: bool = False
    """Whether all buckets are committed, or the token store is completely written."""
    rows: int | None = None
    """Rows of the committed buckets; None where the records were not read."""
    stored_bytes: int | None = None
    """Bytes of the committed shards, or of a token store's shards; None if unknown."""
    error: str | None = None
    """Why it cannot be used, in one line: its root or a commit record is damaged, or of a newer
    version."""

    @property
    def rows_key(self) -> str | None:
        """`rows_key` of an activation store; None if its provenance is not a harvest's."""
        if self.spec is None:
            return None
        try:
            return rows_key(self.spec)
        except ValueError:
            return None


def catalogue(
    place: AnyPlace, storage_options: StorageOptions = None, *, records: bool = True
) -> list[ListedStore]:
    """The store at a place; if there is none, the stores in the folders directly in it, by name.

    Args:
        place: path, URL or place.
        storage_options: of a URL, as fsspec takes them.
        records: also read every commit record, to know rows and bytes and to find damage. If false,
            only roots and lists are read, which is fast even for thousands of buckets.

    Returns:
        One entry for each store; broken ones have an `error`. Folders that are no stores are left
        out. [] if there is no store.

    Raises:
        OSError: the place cannot be listed.
        ValueError: the URL cannot be used.
    """
    place = Place.of(place, storage_options)
    location = locate(place)
    names = location.children()
    if (KEY in names or MARKER in names) and (found := _entry(place, records)) is not None:
        return [found]
    base = place.url.rstrip("/")
    places = [replace(place, url=f"{base}/{name}") for name in names]
    with ThreadPoolExecutor(_LOOKING) as pool:
        entries = pool.map(lambda one: _entry(one, records), places)
        return [entry for entry in entries if entry is not None]


def _entry(place: Place, records: bool) -> ListedStore | None:
    """The entry of the store at a place; None if there is no store."""
    try:
        location = locate(place)
    except NotADirectoryError:  # a file beside the stores
        return None
    try:
        form = _format(location)
    except (ValueError, OSError) as error:
        return ListedStore(location.url, "unreadable", error=one_line(error))
    readers: dict[str, Callable[[], ListedStore]] = {
        FORMAT: lambda: _activations(location, records),
        TOKENS: lambda: _tokens(place, location.url),
        MARKER: lambda: ListedStore(location.url, "tokens"),
    }
    return readers[form]() if form in readers else None


def _format(location: Location) -> str | None:
    """The "format" that a root names; `MARKER` for an unfinished token store, None for others.

    Raises:
        ValueError: the root is not JSON; it may be a damaged store's.
    """
    try:
        data = read_bounded(location, KEY, DOCUMENT_BYTES)
    except FileNotFoundError:
        return MARKER if MARKER in location.children() else None
    found: Any = parse_json(data, f"{location.url}/{KEY}")
    for name in ("attributes", "scopeworks", "format"):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, str) else None


def _activations(location: Location, records: bool) -> ListedStore:
    """The entry of an activation store; damage is in its `error`."""
    entry = ListedStore(location.url, "activations")
    try:
        spec = read_root(location).spec
        n = len(committed_buckets(location, spec))
        entry = replace(entry, spec=spec, n_committed=n, complete=n == spec.n_buckets)
        if not records:
            return entry
        commits = list(read_commits(location, spec).values())
    except (ValueError, OSError) as error:
        return replace(entry, complete=False, error=one_line(error))
    shards = (shard for commit in commits for part in commit.shards.values() for shard in part)
    rows = sum(commit.rows for commit in commits)
    n_bytes, n = sum(shard.n_bytes for shard in shards), len(commits)
    complete = n == spec.n_buckets
    return replace(entry, n_committed=n, complete=complete, rows=rows, stored_bytes=n_bytes)


def _tokens(place: Place, url: str) -> ListedStore:
    """The entry of a token store."""
    try:
        tokens = TokenStore.open(place)
    except (ValueError, OSError) as error:
        return ListedStore(url, "tokens", error=one_line(error))
    return ListedStore(
        url, "tokens", tokens=tokens, complete=True, stored_bytes=tokens.stored_bytes
    )
