"""What a run may rely on while its store grows.

Owns the record by which a run knows its rows again, and the view of a longer store that has just
these rows, in the same order. A stream permutes the list of buckets, so the order of more buckets
is another one: a run that goes on does so on the buckets it was begun with, bit for bit as if the
store had not grown.
"""

import hashlib
from collections.abc import Iterable
from itertools import accumulate, groupby
from typing import Any

from pydantic import Field

from ...foreign import Document, validated
from ...settings import differences
from ..format.commits import Commit
from .reader import ActivationStore


class Identity(Document):
    """What a run's record says of its store."""

    rows: int = Field(ge=1)
    content: str
    sites: dict[str, int]
    provenance: dict[str, Any]
    buckets: list[tuple[int, int]] | None = None
    """Ranges [first, last] of committed buckets; None in a record that does not say: the first
    ones."""


def identity(store: ActivationStore) -> dict[str, Any]:
    """What the store's rows are, wherever they lie, as JSON: equal for equal rows and order."""
    return {
        "rows": store.rows,
        "content": _content(store.commits),
        "sites": {name: store.sites[name] for name in sorted(store.sites)},
        "provenance": store.provenance,
        "buckets": _ranges(commit.bucket for commit in store.commits),
    }


def as_begun(store: ActivationStore, record: dict[str, Any], where: str) -> ActivationStore:
    """The store with the rows that a run was begun with: itself, or the view of those buckets that
    the run's record names. Its stream, C and mean are those of then.

    Args:
        record: what `identity` gave then.
        where: names the record in errors.

    Raises:
        ValueError: these rows are not there any more: another store, or a bucket was taken out.
    """
    known = validated(Identity, record, where)
    begun = store.only(_buckets(store, known))
    found = {name: value for name, value in identity(begun).items() if name in record}
    different = differences(record, found)
    if not different:
        return begun
    if known.sites == store.sites and known.provenance == store.provenance:
        raise ValueError(
            f"{where} is of {known.rows:,} rows of which store {store.url} does not hold all any"
            f" more ({'; '.join(different)}): a bucket was taken out or written again; begin again"
            " in another folder"
        )
    raise ValueError(
        f"{where} is of another store ({'; '.join(different)}); pass the store it was begun with"
    )


def _buckets(store: ActivationStore, known: Identity) -> set[int]:
    """Those of the store's buckets that the record names."""
    if known.buckets is None:
        starts = accumulate((commit.rows for commit in store.commits), initial=0)
        pairs = zip(store.commits, starts, strict=False)
        return {commit.bucket for commit, start in pairs if start < known.rows}
    return {
        commit.bucket
        for commit in store.commits
        if any(first <= commit.bucket <= last for first, last in known.buckets)
    }


def _content(commits: Iterable[Commit]) -> str:
    """A digest of the buckets' checksums: other rows, or another order, is another."""
    digest = hashlib.blake2b(digest_size=8)
    for commit in commits:
        for path, shards in sorted(commit.shards.items()):
            records = [(shard.shard, shard.n_bytes, shard.crc32c) for shard in shards]
            digest.update(repr((commit.bucket, commit.rows, path, records)).encode())
    return digest.hexdigest()


def _ranges(numbers: Iterable[int]) -> list[list[int]]:
    """Ascending numbers as ranges [first, last]."""
    runs = groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])
    found = [[number for _, number in run] for _, run in runs]
    return [[run[0], run[-1]] for run in found]
