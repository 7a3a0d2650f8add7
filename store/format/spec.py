"""The specification of an activation store, and the names and sizes that follow from it.

Owns `StoreSpec`, the choice of chunk, shard and bucket sizes, and the metadata documents of the
Zarr hierarchy. See docs/format.md.
"""

import json
import re
from typing import Any

import google_crc32c
from pydantic import Field, model_validator

from ...foreign import DocumentT, parse_json, validated
from ...settings import Settings
from .arrays import ArrayLayout
from .chunks.codecs import LABELS, PRESETS

FORMAT = "activation-store"
VERSION = "1.0"
"""major.minor: a reader refuses another major version and reads any minor one."""

LABEL_NAMES = ("token", "sequence", "position")

_CHUNK_BYTES = 2**21
_CHUNK_ROWS = (64, 2048)
_SHARD_BYTES = 2**28
_MAX_SHARD_BYTES = 2**30
_BUCKET_ROWS = 2**20
_MIN_BUCKETS = 8
_FAR_OFF = 8
"""Chosen chunks and shards may be this many times smaller than their targets."""
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,199}"
"""Names of sites and splits: each is a folder's name on any file system."""
_SITE_NAME = re.compile(NAME_PATTERN)

# Bounds far beyond any real store: no document can make a reader allocate or count without end.
MAX_ROWS = 2**48
_MAX_BUCKETS = 10**7
_MAX_SITES = 4096
_MAX_WIDTH = 2**20
_MAX_SHARD_CHUNKS = 2**20
DOCUMENT_BYTES = 2**28
"""Largest size of a root or commit record that is read."""


class StoreSpec(Settings):
    """What a store will hold. Two stores of equal spec and equal rows are bit-identical."""

    sites: dict[str, int] = Field(min_length=1, max_length=_MAX_SITES)
    """Site name -> width d of its rows."""

    rows: int = Field(gt=0, le=MAX_ROWS)
    """Rows of every array once the store is complete."""

    bucket_rows: int = Field(default=0, gt=0, le=MAX_ROWS)
    """Rows per bucket, the unit of shuffling and of commits; the last may be short. Default: 2^20,
    because Gemma Scope (Section 3.1) shuffles within about 10^6 rows; less for a small store, so
    that it has at least eight buckets."""

    chunk_rows: int = Field(default=0, gt=0, le=MAX_ROWS)
    """Rows per chunk, the unit of compression and reading. Default: about 2 MiB of the widest
    site, at most 2,048 rows."""

    shard_rows: int = Field(default=0, gt=0, le=MAX_ROWS)
    """Rows per shard, which is one file or object; divides `bucket_rows`. Default: at most 256 MiB
    of the widest site."""

    codec: str = "exact"
    """One of `PRESETS` in store/format/chunks/codecs.py."""

    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the permutation of the rows inside each bucket."""

    provenance: dict[str, Any] = Field(default_factory=dict)
    """Where the rows come from (model, tokens, …), as JSON; not interpreted here."""

    versions: dict[str, str] = Field(default_factory=dict)
    """Library -> version with which the store was begun; other versions may continue it."""

    @model_validator(mode="before")
    @classmethod
    def _choose_sizes(cls, values: Any) -> Any:
        """Fills in missing sizes; wrong types are left to the checks of the fields."""
        if not isinstance(values, dict) or not isinstance(values.get("sites"), dict):
            return values
        widths = list(values["sites"].values())
        if not widths or not all(
            isinstance(n, int) and n > 0 for n in [*widths, values.get("rows")]
        ):
            return values
        given = {name: value for name, value in values.items() if value is not None}
        if {"bucket_rows", "chunk_rows", "shard_rows"} <= given.keys():
            return given
        sizes = choose_sizes(max(widths), values["rows"], given.get("bucket_rows"))
        if not {"chunk_rows", "shard_rows"} & given.keys():
            _check_divisors(max(widths), sizes)
        return sizes | given

    @model_validator(mode="after")
    def _check(self) -> "StoreSpec":
        """The rules between the fields."""
        for name, width in self.sites.items():
            if not _SITE_NAME.fullmatch(name):
                raise ValueError(
                    "site name must be letters, digits, '_', '.' or '-', 200 at most, got"
                    f" {name[:200]!r}"
                )
            if width < 1:
                raise ValueError(f"width of site {name} must be at least 1, got {width}")
            if width > _MAX_WIDTH:
                raise ValueError(f"width of site {name} must be at most {_MAX_WIDTH}, got {width}")
        if self.codec not in PRESETS:
            raise ValueError(f"codec must be one of {', '.join(PRESETS)}, got {self.codec!r}")
        for small, large in (("chunk_rows", "shard_rows"), ("shard_rows", "bucket_rows")):
            if getattr(self, large) % getattr(self, small):
                raise ValueError(
                    f"{large} must be a multiple of {small} ({getattr(self, small)}),"
                    f" got {getattr(self, large)}"
                )
        if self.shard_rows // self.chunk_rows > _MAX_SHARD_CHUNKS:
            raise ValueError(
                f"shard_rows must be at most {_MAX_SHARD_CHUNKS} chunks of chunk_rows"
                f" ({self.chunk_rows}), got {self.shard_rows}"
            )
        if self.n_buckets > _MAX_BUCKETS:
            raise ValueError(
                f"bucket_rows must cut {self.rows} rows into at most {_MAX_BUCKETS} buckets, got"
                f" {self.bucket_rows}; take larger buckets"
            )
        if self.shard_rows * max(self.sites.values()) * 4 > 2 * _MAX_SHARD_BYTES:
            raise ValueError(f"shard_rows must give shards under 1 GiB, got {self.shard_rows} rows")
        return self

    @property
    def n_buckets(self) -> int:
        """Buckets of the complete store."""
        return -(-self.rows // self.bucket_rows)

    def bucket_range(self, bucket: int) -> tuple[int, int]:
        """Rows [start, stop) of a bucket."""
        if not 0 <= bucket < self.n_buckets:
            raise ValueError(f"bucket must be in 0 … {self.n_buckets - 1}, got {bucket}")
        start = bucket * self.bucket_rows
        return start, min(start + self.bucket_rows, self.rows)

    def site_layouts(self) -> dict[str, ArrayLayout]:
        """The array of every site, by site name."""
        sizes, codec = (self.chunk_rows, self.shard_rows), PRESETS[self.codec]
        return {
            name: ArrayLayout(f"sites/{name}", self.rows, width, *sizes, codec)
            for name, width in self.sites.items()
        }

    def label_layouts(self) -> dict[str, ArrayLayout]:
        """The label arrays, by name. Their values are small, so their chunks are larger: up to
        65,536 rows."""
        chunk = self.chunk_rows * largest_divisor(
            self.shard_rows // self.chunk_rows, max(1, 2**16 // self.chunk_rows)
        )
        return {
            name: ArrayLayout(f"labels/{name}", self.rows, None, chunk, self.shard_rows, LABELS)
            for name in LABEL_NAMES
        }


def choose_sizes(width: int, rows: int, bucket_rows: int | None = None) -> dict[str, int]:
    """Default bucket, shard and chunk sizes in rows, for rows of `width` values of two bytes.

    If a bucket size is given, chunk and shard are its largest divisors within their bounds.
    """
    if not isinstance(bucket_rows, int) or bucket_rows < 1:
        bucket_rows = _default_bucket_rows(rows)
    return {"bucket_rows": bucket_rows, **_divisors(bucket_rows, *_targets(width))}


def even_bucket_rows(rows: int) -> int:
    """A bucket size of at most the default, so that whole buckets hold little more than `rows`: the
    excess is less than `rows` / 64 plus 1/64 of a default bucket."""
    size = _default_bucket_rows(rows)
    step = size // 64
    return -(-rows // (-(-rows // size) * step)) * step


def _default_bucket_rows(rows: int) -> int:
    """2^20, halved until there are at least eight buckets, but not below 1,024."""
    size = _BUCKET_ROWS
    while size > 1024 and size * _MIN_BUCKETS > rows:
        size //= 2
    return size


def _targets(width: int) -> tuple[int, int]:
    """The most rows that a chunk and a shard should have."""
    low, high = _CHUNK_ROWS
    chunk_rows = min(high, max(low, _CHUNK_BYTES // (2 * width)))
    chunk_rows = 2 ** (chunk_rows.bit_length() - 1)
    return chunk_rows, max(chunk_rows, _SHARD_BYTES // (2 * width))


def _divisors(bucket_rows: int, chunk_target: int, shard_target: int) -> dict[str, int]:
    """The largest divisors of the bucket within the targets; a shard is whole chunks."""
    chunk_rows = largest_divisor(bucket_rows, chunk_target)
    chunks = largest_divisor(bucket_rows // chunk_rows, shard_target // chunk_rows)
    return {"chunk_rows": chunk_rows, "shard_rows": chunks * chunk_rows}


def _check_divisors(width: int, sizes: dict[str, int]) -> None:
    """Refuses a bucket size with no divisor near the targets: a prime one would give chunks of one
    row, or shards of one chunk."""
    targets = _targets(width)

    def fits(bucket_rows: int) -> bool:
        found = _divisors(bucket_rows, *targets)
        wanted = (min(target, bucket_rows) for target in targets)
        return all(
            _FAR_OFF * rows >= target for rows, target in zip(found.values(), wanted, strict=True)
        )

    bucket_rows = sizes["bucket_rows"]
    if not fits(bucket_rows):
        near = (bucket_rows + sign * step for step in range(1, bucket_rows) for sign in (-1, 1))
        raise ValueError(
            f"bucket_rows must have divisors for its chunks (at most {targets[0]} rows) and shards"
            f" (at most {targets[1]}), got {bucket_rows}, which gives chunks of"
            f" {sizes['chunk_rows']} and shards of {sizes['shard_rows']}; take"
            f" {next(filter(fits, near))}, or give chunk_rows and shard_rows"
        )


def largest_divisor(number: int, bound: int) -> int:
    """The largest divisor of `number` that is at most `bound`."""
    return next(n for n in range(min(number, bound), 0, -1) if number % n == 0)


def checksum(document: Any) -> str:
    """crc32c (hexadecimal) of a JSON document in canonical form: sorted keys, no spaces, UTF-8."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return crc32c_hex(text.encode())


def crc32c_hex(data: bytes) -> str:
    """crc32c of bytes as eight hexadecimal digits."""
    return f"{google_crc32c.value(data):08x}"


def group_document(attributes: dict[str, Any] | None = None) -> bytes:
    """The `zarr.json` of a group; attributes go under the key "scopeworks"."""
    content = {} if attributes is None else {"scopeworks": attributes}
    return encode_json({"zarr_format": 3, "node_type": "group", "attributes": content})


def encode_json(document: Any) -> bytes:
    """Readable JSON (indented, keys in the order given) with a newline at the end, as UTF-8."""
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def checked_attributes(
    kind: type[DocumentT], data: bytes, form: str, where: str
) -> tuple[DocumentT, dict[str, Any]]:
    """The "scopeworks" attributes of a group document, after its version and checksum are checked.

    Args:
        kind: model of what the attributes must hold.
        data: the document.
        form: the "format" that the attributes must name.
        where: names the document in errors.

    Returns:
        The attributes as a `kind`, and all attributes except the checksum as a dictionary.

    Raises:
        ValueError: the document is not a scopeworks document, has an unknown major version, is
            damaged, or does not hold what it must.
    """
    attributes = _attributes(data, form, where)
    body = {name: value for name, value in attributes.items() if name != "crc32c"}
    found, version = str(body.get("format"))[:60], repr(str(body.get("version"))[:60])[1:-1]
    if found != form:
        raise ValueError(f"{where} must be a scopeworks {form}, got {found!r}")
    if version.partition(".")[0] != VERSION.partition(".")[0]:
        raise ValueError(
            f"{where} must have format version {VERSION.partition('.')[0]}.x, got {version};"
            " a newer scopeworks may read it"
        )
    try:
        expected = checksum(body)
    except (RecursionError, ValueError) as error:  # half a surrogate pair, for one
        raise ValueError(f"{where} is damaged: its zarr.json has no canonical form") from error
    if expected != attributes.get("crc32c"):
        raise ValueError(f"{where} is damaged: the checksum in its zarr.json is wrong")
    return validated(kind, body, where), body


def _attributes(data: bytes, form: str, where: str) -> dict[str, Any]:
    """The attributes under the key "scopeworks", not checked yet."""
    none = f"{where} must be a scopeworks {form}, but its zarr.json is not one"
    if len(data) > DOCUMENT_BYTES:
        raise ValueError(f"{none}: it has more than {DOCUMENT_BYTES} bytes")
    try:
        found = parse_json(data, "it")
    except ValueError as error:
        raise ValueError(f"{none}: {error}") from error
    for name in ("attributes", "scopeworks"):
        found = found.get(name) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        raise ValueError(none)
    return found
