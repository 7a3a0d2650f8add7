"""How a training run finds its rows again after its store has grown.

Owns the record of a store's rows that a run keeps, and the view of a longer store with just these
rows in the same order. A stream permutes the list of buckets, so more buckets have another order.
Therefore a run continues on the buckets with which it began, bit for bit as if the store had not
grown.
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
    """A run's record of the rows of its store."""

    rows: int = Field(ge=1)
    content: str
    sites: dict[str, int]
    provenance: dict[str, Any]
    buckets: list[tuple[int, int]] | None = None
    """Ranges [first, last] of committed buckets; None in older records, for the first buckets that
    hold `rows` rows."""


def identity(store: ActivationStore) -> dict[str, Any]:
    """A record, as JSON, of a store's rows and their order: equal for equal rows in any place."""
    return {
        "rows": store.rows,
        "content": _content(store.commits),
        "sites": {name: store.sites[name] for name in sorted(store.sites)},
        "provenance": store.provenance,
        "buckets": _ranges(commit.bucket for commit in store.commits),
    }


def as_begun(store: ActivationStore, record: dict[str, Any], where: str) -> ActivationStore:
    """The store with only the buckets with which a run began, so that stream, C and mean are the
    same as then.

    Args:
        store: the store now.
        record: the result of `identity` when the run began.
        where: names the record in errors.

    Raises:
        ValueError: it is another store, or a bucket of the record was removed or written again.
    """
    known = validated(Identity, record, where)
    left = _buckets(store, known)
    begun = store.only(left) if left else store
    now = identity(begun) | ({} if left else {"rows": 0, "content": _content(()), "buckets": []})
    found = {name: value for name, value in now.items() if name in record}
    different = differences(record, found)
    if not different:
        return begun
    if known.sites == store.sites and known.provenance == store.provenance:
        raise ValueError(
            f"{where} is of {known.rows:,} rows, and store {store.url} no longer holds all of them"
            f" ({'; '.join(different)}): a bucket was taken out or written again; begin again in"
            " another folder"
        )
    raise ValueError(
        f"{where} is of another store ({'; '.join(different)}); pass the store it was begun with"
    )


def _buckets(store: ActivationStore, known: Identity) -> set[int]:
    """The store's buckets that the record names."""
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
    """A digest of the buckets' checksums, different for other rows or another order."""
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
