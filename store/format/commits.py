"""Commit records: a bucket exists if and only if its record does.

Owns writing and reading them; `commit_rules` has the rules they must fulfil. A record is the
attributes of the Zarr group `commits/<bucket>`: one small object, written after all shards of the
bucket. It holds the number of rows, the size and crc32c of every shard, and per site Σx and Σ‖x‖²
in float64, so that normaliser and mean are known exactly without reading a row.
"""

import base64
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ...foreign import Document
from ..place.location import Location, read_bounded
from .arrays import DamagedStoreError, ShardRecord
from .commit_rules import check_names, check_shards, check_sums
from .spec import (
    DOCUMENT_BYTES,
    MAX_ROWS,
    VERSION,
    StoreSpec,
    checked_attributes,
    checksum,
    group_document,
)
from .values import SiteSums

KIND = "bucket-commit"
_READERS = 16
_NUMBER = re.compile("[0-9]{8}")


_Count = Annotated[int, Field(ge=0, le=MAX_ROWS)]
_Crc = Annotated[int, Field(ge=0, lt=2**32)]


class _SiteDocument(Document):
    sum: str
    sum_squares: float = Field(ge=0)
    scale: str | None = None
    saturated: int = Field(0, ge=0, le=2**62)


class _CommitDocument(Document):
    """What a commit record must hold."""

    bucket: _Count
    rows: _Count
    dropped: _Count = 0
    dropped_at: list[tuple[_Count, _Count]] = Field(default_factory=list)
    sites: dict[str, _SiteDocument]
    shards: dict[str, list[tuple[_Count, _Count, _Crc]]]


@dataclass(frozen=True)
class Commit:
    """One committed bucket."""

    bucket: int
    rows: int
    """Rows that exist, from the start of the bucket; fewer than its range only if rows were
    dropped."""
    sums: dict[str, SiteSums]
    shards: dict[str, list[ShardRecord]]
    """Array path -> its shard objects of this bucket, in order."""
    dropped: int = 0
    """Rows left out because they were not finite (`drop_nonfinite`) or outliers."""
    dropped_at: dict[int, int] = field(default_factory=dict)
    """Position in the sequence -> rows left out there."""


def commit_key(bucket: int) -> str:
    """Key of a bucket's record."""
    return f"commits/{bucket:08d}/zarr.json"


def write_commit(location: Location, commit: Commit) -> None:
    """Writes the record, atomically and durably; after this the bucket exists."""
    body = {
        "format": KIND,
        "version": VERSION,
        "bucket": commit.bucket,
        "rows": commit.rows,
        "dropped": commit.dropped,
        "dropped_at": sorted(commit.dropped_at.items()),
        "sites": {name: _site_to_json(sums) for name, sums in commit.sums.items()},
        "shards": {
            path: [[record.shard, record.n_bytes, record.crc32c] for record in records]
            for path, records in commit.shards.items()
        },
    }
    document = group_document(body | {"crc32c": checksum(body)})
    location.replace(commit_key(commit.bucket), document)


def read_commit(location: Location, bucket: int, spec: StoreSpec) -> Commit:
    """Reads and checks a record.

    Raises:
        FileNotFoundError: the bucket is not committed.
        DamagedStoreError: the record is not as it was written, or does not fit the store.
    """
    key = commit_key(bucket)
    where = f"{location.url}/{key}"
    data = read_bounded(location, key, DOCUMENT_BYTES)
    try:
        found, _ = checked_attributes(_CommitDocument, data, KIND, where)
        commit = _from_document(found)
        _check(commit, bucket, spec)
    except ValueError as error:
        place = "" if where in str(error) else f" (in {where})"
        raise DamagedStoreError(f"commit of bucket {bucket}: {error}{place}") from error
    return commit


def _check(commit: Commit, bucket: int, spec: StoreSpec) -> None:
    """Refuses a record that breaks a rule on which readers rely."""
    start, stop = spec.bucket_range(bucket)
    if commit.bucket != bucket:
        raise ValueError(f"bucket must be {bucket} as its place says, got {commit.bucket}")
    if commit.rows + commit.dropped != stop - start:
        raise ValueError(
            f"rows and dropped must be {stop - start} together, got"
            f" {commit.rows + commit.dropped}; take the bucket out with `scopeworks store verify"
            " --withdraw` and run the harvest again"
        )
    if commit.dropped_at and sum(commit.dropped_at.values()) != commit.dropped:
        raise ValueError(
            f"dropped_at must add up to dropped ({commit.dropped}), got"
            f" {sum(commit.dropped_at.values())}"
        )
    sites, arrays = spec.site_layouts(), spec.site_layouts() | spec.label_layouts()
    check_names("sites", commit.sums, sites)
    check_names("shards", commit.shards, [layout.path for layout in arrays.values()])
    for name, layout in sites.items():
        check_sums(name, commit.sums[name], layout, commit.rows)
    for layout in arrays.values():
        check_shards(commit.shards[layout.path], layout, start, commit.rows)


def committed_buckets(location: Location, spec: StoreSpec) -> list[int]:
    """Numbers of the committed buckets, ascending. The records are listed, not read."""
    names = [name for name in location.children("commits") if _NUMBER.fullmatch(name)]
    return [int(name) for name in names if int(name) < spec.n_buckets]


def read_commits(location: Location, spec: StoreSpec) -> dict[int, Commit]:
    """All records by bucket, read in parallel; a record that is removed meanwhile is left out."""

    def read(bucket: int) -> Commit | None:
        try:
            return read_commit(location, bucket, spec)
        except FileNotFoundError:
            return None

    with ThreadPoolExecutor(_READERS) as pool:
        commits = pool.map(read, committed_buckets(location, spec))
        return {commit.bucket: commit for commit in commits if commit is not None}


def shard_sizes(path: str, commits: Iterable[Commit]) -> Callable[[int], int]:
    """A function: shard of an array -> committed bytes of its object.

    It raises DamagedStoreError for a shard that is in no commit record.
    """
    sizes = {
        shard.shard: shard.n_bytes for commit in commits for shard in commit.shards.get(path, [])
    }

    def size(shard: int) -> int:
        if shard not in sizes:
            raise DamagedStoreError(f"{path}: shard {shard} is in no commit record")
        return sizes[shard]

    return size


def shard_versions(commits: Iterable[Commit]) -> Callable[[str], str]:
    """A function: key of a shard -> its committed size and checksum, as one text."""
    records = {
        (path, record.shard): record
        for commit in commits
        for path, shards in commit.shards.items()
        for record in shards
    }

    def version(key: str) -> str:
        path, _, shard = key.partition("/c/")
        record = records[path, int(shard.partition("/")[0])]
        return f"{record.n_bytes} {record.crc32c}"

    return version


def common_scale(commits: Sequence[Commit], site: str) -> np.ndarray | None:
    """int8: the scale of a site (float32 [d]), equal in every commit; None for other codecs.

    Raises:
        DamagedStoreError: two commits have different scales.
    """
    scales = [commit.sums[site].scale for commit in commits]
    first = scales[0] if scales else None
    for commit, scale in zip(commits, scales, strict=True):
        if (scale is None) != (first is None) or (
            scale is not None and first is not None and not np.array_equal(scale, first)
        ):
            raise DamagedStoreError(
                f"commit of bucket {commit.bucket}: the scale of {site} differs from that of"
                f" bucket {commits[0].bucket}; take it out with scopeworks store"
                " verify --withdraw, and run the harvest again"
            )
    return first


def _from_document(found: _CommitDocument) -> Commit:
    sums = {name: _sums(name, site) for name, site in found.sites.items()}
    shards = {
        path: [ShardRecord(*record) for record in records] for path, records in found.shards.items()
    }
    return Commit(found.bucket, found.rows, sums, shards, found.dropped, dict(found.dropped_at))


def _site_to_json(sums: SiteSums) -> dict[str, Any]:
    site = {"sum": _to_base64(sums.total, "<f8"), "sum_squares": sums.squares}
    if sums.scale is not None:
        site |= {"scale": _to_base64(sums.scale, "<f4"), "saturated": sums.saturated}
    return site


def _sums(name: str, site: _SiteDocument) -> SiteSums:
    total = _from_base64(site.sum, "<f8", f"sum of {name}")
    scale = None if site.scale is None else _from_base64(site.scale, "<f4", f"scale of {name}")
    return SiteSums(total, site.sum_squares, scale, site.saturated)


def _to_base64(vector: np.ndarray, dtype: str) -> str:
    return base64.b64encode(vector.astype(dtype).tobytes()).decode()


def _from_base64(text: str, dtype: str, what: str) -> np.ndarray:
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), dtype=dtype)
    except ValueError as error:
        raise ValueError(f"{what} must be base64 of {dtype[1:]} numbers, got {error}") from error
