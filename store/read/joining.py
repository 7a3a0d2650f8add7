"""Opening one store, or several stores with the same rows that are read as one.

Owns the state of an opened store, the checks that several stores are aligned (the same rows in the
same order, see docs/format.md), and their joined spec and commits. A joined store shows the sites
of all stores and the buckets that are committed in all of them.
"""

import os
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...arguments import several
from ...settings import differences
from ..format.arrays import ArrayLayout
from ..format.commits import Commit, read_commits, shard_sizes, shard_versions
from ..format.root import read_root, stores_below
from ..format.spec import LABEL_NAMES, StoreSpec
from ..place.locate import locate
from ..place.location import Location, StorageOptions
from ..place.place import AnyPlace, Place
from ..which_rows import CHOSEN, COMPUTED
from .array_reader import ArrayReader
from .cache import CachedReads

AnyPlaces = AnyPlace | Sequence[AnyPlace]
"""The place of one store, or a list or tuple of places of stores to read as one."""


@dataclass(frozen=True)
class Opened:
    """One store's root and commit records."""

    location: Location
    spec: StoreSpec
    commits: dict[int, Commit]
    given: str
    """Its place as it was asked for: a local path may be relative."""

    @property
    def url(self) -> str:
        """The store's URL or path."""
        return self.location.url

    @classmethod
    def at(cls, place: Place, cache_dir: Path | None, cache_bytes: int) -> "Opened":
        """Opens the store at a place; see `ActivationStore.open`."""
        location = locate(place)
        try:
            spec = read_root(location).spec
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"no activation store at {location.url}; "
                + (stores_below(location) or "`scopeworks harvest` makes one")
            ) from error
        commits = read_commits(location, spec)
        # Only committed ranges go through the cache, and what is committed does not change.
        if cache_dir is not None:
            versions = shard_versions(commits.values())
            location = CachedReads(location, cache_dir, versions, cache_bytes)
        return cls(location, spec, commits, place.url)

    def only(self, buckets: Collection[int]) -> "Opened":
        """The store as if no other buckets were committed."""
        return replace(self, commits={bucket: self.commits[bucket] for bucket in buckets})

    def layouts(self) -> dict[str, ArrayLayout]:
        """The arrays of its sites and labels, by name."""
        return self.spec.site_layouts() | self.spec.label_layouts()

    def readers(self) -> dict[str, ArrayReader]:
        """A reader for each of these arrays, by name."""
        commits = self.commits.values()
        return {
            name: ArrayReader(self.location, layout, shard_sizes(layout.path, commits))
            for name, layout in self.layouts().items()
        }


def open_aligned(
    urls: Any,
    storage_options: StorageOptions,
    cache_dir: str | os.PathLike[str] | None,
    cache_bytes: int,
) -> list[Opened]:
    """Opens one store, or several aligned stores, each cut to the buckets committed in all.

    Returns:
        The stores in the order of their sites, which does not depend on the order of `urls`.

    Raises:
        ValueError: the stores are not aligned, or a site has different bytes in two of them.
        FileNotFoundError, DamagedStoreError: see `ActivationStore.open`.
    """
    places = places_of(urls, storage_options)
    n_remote = sum(place.is_remote for place in places)
    folder = None if cache_dir is None else Path(cache_dir)
    opened = [
        Opened.at(place, folder if place.is_remote else None, cache_bytes // max(1, n_remote))
        for place in places
    ]
    if len(opened) == 1:
        return opened
    for other in opened[1:]:
        _check_facts(opened[0], other)
    n_buckets = -(-_common_rows(opened) // opened[0].spec.bucket_rows)
    everywhere = set(range(n_buckets)).intersection(*(one.commits for one in opened))
    parts = [one.only(sorted(everywhere)) for one in opened]
    _check_sites(parts)
    for other in parts[1:]:
        _check_labels(parts[0], other)
    return sorted(parts, key=lambda part: sorted(part.spec.sites))


def places_of(urls: Any, options: StorageOptions) -> list[Place]:
    """One or several places or open stores as a list of places; the remote ones get the options."""
    given: list[Any] = [urls] if _is_open(urls) else list(several(urls))
    named: list[AnyPlace] = []
    for one in given:
        name = one.as_setting() if _is_open(one) else one
        named += name if isinstance(name, tuple) else [name]
    if not named:
        raise ValueError("url must name at least one activation store, got an empty list")
    remote = [Place.of(one).is_remote for one in named]
    return [
        Place.of(one, options if far or not any(remote) else None)
        for one, far in zip(named, remote, strict=True)
    ]


def _is_open(given: Any) -> bool:
    """Whether it is a store that is already open; such a store names its places."""
    return hasattr(given, "as_setting")


def together(parts: Sequence[Opened]) -> tuple[StoreSpec, dict[int, Commit]]:
    """The spec and the commits of aligned stores as one store.

    The spec has all sites and the rows that all stores are to hold; each commit has all sites and
    one set of labels. The chunk size is the smallest of all, as one harvest of all sites would have
    it by default; a stream uses it for its order. Codec, provenance and the rest are those of the
    first store.
    """
    first, *others = parts
    if not others:
        return first.spec, first.commits
    smallest = min(parts, key=lambda part: part.spec.chunk_rows).spec
    changes = {
        "sites": {site: width for part in parts for site, width in part.spec.sites.items()},
        "rows": _common_rows(parts),
        "chunk_rows": smallest.chunk_rows,
        "shard_rows": smallest.shard_rows,
    }
    commits = {
        bucket: _merged([part.commits[bucket] for part in parts]) for bucket in first.commits
    }
    return first.spec.model_copy(update=changes), commits


def computed_differently(parts: Sequence[Opened]) -> list[str]:
    """One line for each store whose rows were computed differently from the first store's.

    Such rows are aligned, but their last bits may differ from those of one harvest.
    """
    first, *others = parts
    lines = []
    for other in others:
        one, two = (_said(store, COMPUTED) for store in (first, other))
        if first.spec.versions and other.spec.versions:  # missing in older stores
            one, two = one | first.spec.versions, two | other.spec.versions
        if changed := differences(one, two):
            lines.append(
                f"stores {first.url} and {other.url} were computed differently"
                f" ({'; '.join(changed)}): their rows may differ in the last bits from those of one"
                " harvest"
            )
    return lines


def _said(store: Opened, names: Iterable[str]) -> dict[str, Any]:
    """Entries of the provenance by name; None for those that are missing."""
    return {name: store.spec.provenance.get(name) for name in names}


def _check_facts(first: Opened, other: Opened) -> None:
    """Refuses stores whose specs say that their rows or their orders differ."""
    facts = [
        store.spec.model_dump(include={"seed", "bucket_rows"}) | _said(store, CHOSEN)
        for store in (first, other)
    ]
    if changed := differences(*facts):
        raise ValueError(
            f"store {other.url} must hold the rows of store {first.url} to be read as one with it,"
            f" but these differ: {'; '.join(changed)}; leave it out, or harvest its sites from the"
            " same tokens with the same model, mask, seed and --bucket-rows"
        )


def _common_rows(parts: Sequence[Opened]) -> int:
    """Rows of the joined store: those of the shortest, cut to whole buckets unless all stores have
    equally many."""
    sizes, bucket_rows = {part.spec.rows for part in parts}, parts[0].spec.bucket_rows
    least = min(sizes)
    rows = least if len(sizes) == 1 else least - least % bucket_rows
    if not rows:
        short = min(parts, key=lambda part: part.spec.rows)
        raise ValueError(
            f"store {short.url} must hold at least one whole bucket of {bucket_rows} rows to be"
            f" read as one with longer stores, got {least} rows; leave it out"
        )
    return rows


def _check_sites(parts: Sequence[Opened]) -> None:
    """Refuses a site that has different bytes in two stores."""
    seen: dict[str, Opened] = {}
    for part in parts:
        for site in part.spec.sites:
            other = seen.setdefault(site, part)
            if other is part or _are_the_same(site, other, part):
                continue
            one, two = set(part.spec.sites), set(other.spec.sites)
            needless = part if one <= two else other if two <= one else None
            advice = "one of them" if needless is None else f"store {needless.url}"
            raise ValueError(
                f"site {site} must be in one of the stores that are read as one, or the same bytes"
                f" in all, got other bytes in {other.url} and {part.url}; leave out {advice}"
            )


def _are_the_same(site: str, one: Opened, two: Opened) -> bool:
    """Whether a site has the same chunks, shards, codec and committed checksums in both stores."""
    layouts = [replace(store.layouts()[site], rows=0) for store in (one, two)]
    path = layouts[0].path
    return layouts[0] == layouts[1] and all(
        commit.shards[path] == two.commits[bucket].shards[path]
        for bucket, commit in one.commits.items()
    )


def _check_labels(first: Opened, other: Opened) -> None:
    """Refuses stores whose labels differ in a bucket.

    Sizes and checksums of the label shards are compared first. If they differ, as they do for other
    chunk or shard sizes, the labels are read and compared.
    """
    readers = [store.readers() for store in (first, other)]

    def difference(bucket: int) -> str | None:
        one, two = first.commits[bucket], other.commits[bucket]
        if one.rows != two.rows:
            return f"{one.rows} and {two.rows} rows"
        start = bucket * first.spec.bucket_rows
        for name in LABEL_NAMES:
            if one.shards[f"labels/{name}"] == two.shards[f"labels/{name}"]:
                continue
            x, y = (found[name].read_rows(start, start + one.rows) for found in readers)
            if len(odd := np.flatnonzero(x != y)):
                row = int(odd[0])
                return f"{name} {x[row]} and {y[row]} in row {row} of the bucket"
        return None

    threads = max(first.location.in_flight, other.location.in_flight)
    with ThreadPoolExecutor(threads) as pool:
        for bucket, problem in zip(first.commits, pool.map(difference, first.commits), strict=True):
            if problem is not None:
                raise ValueError(
                    f"bucket {bucket} of stores {first.url} and {other.url} must be of the same"
                    f" rows for them to be read as one, got {problem}; leave one of them out"
                )


def _merged(commits: Sequence[Commit]) -> Commit:
    """The records of one bucket as one record; entries that several have are equal."""
    sums = {name: one for commit in commits for name, one in commit.sums.items()}
    shards = {path: one for commit in commits for path, one in commit.shards.items()}
    return replace(commits[0], sums=sums, shards=shards)
