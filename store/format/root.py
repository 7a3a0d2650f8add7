"""The root document of an activation store, and the metadata documents whose checksums it holds.

Owns their content, and the order of writes that creates a store or lets it grow. Every intermediate
state is a valid store. See docs/format.md.
"""

import json
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from ...foreign import Document, validated
from ..place.location import Location, read_bounded
from .spec import (
    DOCUMENT_BYTES,
    FORMAT,
    LABEL_NAMES,
    MAX_ROWS,
    VERSION,
    StoreSpec,
    checked_attributes,
    checksum,
    crc32c_hex,
    encode_json,
    group_document,
)

KEY = "zarr.json"
_REQUIRED = {"sites", "rows", "bucket_rows", "chunk_rows", "shard_rows", "codec", "seed"}
"""Entries of a spec that roots of all versions have."""
_MAX_GROWTHS = 10**4
_LOOKED_AT = 50


class _RootDocument(Document):
    """What a root document must hold."""

    spec: dict[str, Any]
    documents: dict[str, Annotated[str, Field(pattern="^[0-9a-f]{8}$")]]
    grown_from: list[Annotated[int, Field(ge=1, le=MAX_ROWS)]] = Field(
        default_factory=list, max_length=_MAX_GROWTHS
    )


class _StoredSpec(StoreSpec):
    """A spec as written in a root: exact JSON types."""

    model_config = ConfigDict(strict=True)


@dataclass(frozen=True)
class Root:
    """A root document as it was read."""

    spec: StoreSpec
    grown_from: tuple[int, ...]
    """Earlier values of `spec.rows`, ascending; empty if the store never grew."""
    documents: dict[str, str]
    """Key of every other metadata document -> crc32c of its bytes."""
    data: bytes
    """The document itself."""

    def accepted(self, key: str) -> set[str]:
        """Checksums that a metadata document may have: its own, and those of earlier sizes, because
        a `grow` that was killed leaves documents of an earlier size."""
        return {self.documents[key]} | {earlier[key] for earlier in self._earlier}

    @cached_property
    def _earlier(self) -> list[dict[str, str]]:
        """Checksums of the documents of every earlier size."""
        return [_checksums(_resized(self.spec, rows)) for rows in self.grown_from]


def read_root(location: Location) -> Root:
    """Reads and checks a root document.

    Raises:
        FileNotFoundError: there is no root document.
        ValueError: it is not an activation store's, has an unknown major version, or is damaged.
    """
    data = read_bounded(location, KEY, DOCUMENT_BYTES)
    found, _ = checked_attributes(_RootDocument, data, FORMAT, location.url)
    # A newer minor version may have entries that this reader does not know.
    known = {name: found.spec[name] for name in StoreSpec.model_fields.keys() & found.spec}
    if missing := sorted(_REQUIRED - known.keys()):
        raise ValueError(f"{location.url} must have spec.{missing[0]} in its zarr.json, got none")
    validated(_StoredSpec, known, f"{location.url}: spec")
    spec = StoreSpec.model_validate(known)
    root = Root(spec, tuple(found.grown_from), found.documents, data)
    _check(root, location.url)
    return root


def stores_below(location: Location, form: str = FORMAT) -> str:
    """What to open where no store is: names the stores of this form directly below; "" if there are
    none among the first names."""
    found = []
    with suppress(OSError):  # a hint only
        for name in location.children()[:_LOOKED_AT]:
            with suppress(FileNotFoundError):
                if f'"{form}"'.encode() in read_bounded(location, f"{name}/{KEY}", DOCUMENT_BYTES):
                    found.append(name)
    return f"it holds {', '.join(found[:3])}: pass {location.url}/{found[0]}" if found else ""


def _check(root: Root, where: str) -> None:
    """Checks the rules between a root's entries."""
    sizes = (*root.grown_from, root.spec.rows)
    if any(later <= earlier for earlier, later in pairwise(sizes)):
        raise ValueError(
            f"{where}: grown_from must be ascending and below rows ({root.spec.rows}), got"
            f" {list(root.grown_from)[:10]}"
        )
    arrays = [f"sites/{name}" for name in root.spec.sites]
    arrays += [f"labels/{name}" for name in LABEL_NAMES]
    expected = {f"{path}/{KEY}" for path in ("sites", "labels", "commits", *arrays)}
    if odd := sorted(expected ^ root.documents.keys()):
        raise ValueError(
            f"{where}: documents must name those of the spec's sites, got"
            f" {'no' if odd[0] in expected else 'also'} {odd[0][:200]!r}"
        )


def create(location: Location, spec: StoreSpec) -> Root:
    """Writes the metadata of a new store, the root last: a store with a root has all metadata.

    Several processes may call this at once. The first root stays.

    Returns:
        The root that is there, which may be another process's and of another spec.
    """
    documents = documents_of(spec)
    location.sweep([*documents, KEY])
    for key, document in documents.items():
        location.write(key, [document])
    location.flush(documents)
    root = _root_of(spec, ())
    return root if location.create(KEY, root.data) else read_root(location)


def grow(location: Location, root: Root, rows: int) -> Root:
    """Makes the arrays longer. Several processes may grow a store to the same size at once.

    The root is replaced first. From then on readers count the new buckets, none of which is
    committed yet. The arrays' documents, which only plain Zarr reads, may be late: until then plain
    Zarr sees fewer rows. `repair_documents` updates those that a killed process has left.
    """
    grown = _root_of(_resized(root.spec, rows), (*root.grown_from, root.spec.rows))
    location.replace(KEY, grown.data)
    repair_documents(location, grown)
    return grown


def repair_documents(location: Location, root: Root) -> None:
    """Rewrites metadata documents that a killed `grow` has left at an earlier size, and removes its
    unfinished files."""
    if not root.grown_from:
        return
    documents = documents_of(root.spec)
    location.sweep([*documents, KEY])
    for key, document in documents.items():
        if crc32c_hex(location.read(key)) != root.documents[key]:
            location.replace(key, document)


def documents_of(spec: StoreSpec) -> dict[str, bytes]:
    """Key -> content of every metadata document except the root."""
    documents = {f"{group}/{KEY}": group_document() for group in ("sites", "labels", "commits")}
    for layout in [*spec.site_layouts().values(), *spec.label_layouts().values()]:
        documents[f"{layout.path}/{KEY}"] = encode_json(layout.metadata())
    return documents


def _checksums(spec: StoreSpec) -> dict[str, str]:
    return {key: crc32c_hex(document) for key, document in documents_of(spec).items()}


def as_json(spec: StoreSpec) -> dict[str, Any]:
    """The spec as it reads back from disk (tuples are lists, keys are text)."""
    return json.loads(json.dumps(spec.model_dump(mode="json")))


def _resized(spec: StoreSpec, rows: int) -> StoreSpec:
    return spec.model_copy(update={"rows": rows})


def _root_of(spec: StoreSpec, grown_from: tuple[int, ...]) -> Root:
    """The root of a store of this spec, as it is written."""
    documents = _checksums(spec)
    body: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "spec": as_json(spec),
        "documents": documents,
    }
    if grown_from:
        body["grown_from"] = list(grown_from)
    data = group_document(body | {"crc32c": checksum(body)})
    return Root(spec, grown_from, documents, data)
