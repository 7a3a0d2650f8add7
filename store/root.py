"""The root document of an activation store, and the metadata documents it answers for.

Owns their content, and the order of writes that creates a store or lets it grow, so that a reader
at any moment and a process killed at any moment leave a valid store. See docs/format.md.
"""

import json
from dataclasses import dataclass
from typing import Any

from .location import Location
from .spec import (
    FORMAT,
    VERSION,
    StoreSpec,
    checked_attributes,
    checksum,
    crc32c_hex,
    encode_json,
    group_document,
)

KEY = "zarr.json"


@dataclass(frozen=True)
class Root:
    """A root document as it was read."""

    spec: StoreSpec
    grown_from: tuple[int, ...]
    """Rows the store was to hold before, ascending; empty if it never grew."""
    documents: dict[str, str]
    """Key of every other metadata document -> crc32c of its bytes."""
    data: bytes
    """The document itself."""

    def accepted(self, key: str) -> set[str]:
        """Checksums a metadata document may have: its own, or that of an earlier size where a
        growing process was killed before it came to this document."""
        found = {self.documents[key]}
        for rows in self.grown_from:
            earlier = documents_of(_resized(self.spec, rows))
            found |= {crc32c_hex(earlier[key])} if key in earlier else set()
        return found

    def outgrown(self) -> set[int]:
        """Buckets that were the short last one of an earlier size; their commits may hold fewer
        rows than the bucket takes now."""
        size = self.spec.bucket_rows
        return {rows // size for rows in self.grown_from if rows % size}


def read_root(location: Location) -> Root:
    """Reads and checks a root document.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is none of ours, of an unknown major version, or damaged.
    """
    data = location.read(KEY)
    body = checked_attributes(data, FORMAT, location.url)
    # A newer minor version may say more than this reader knows.
    known = {name: body["spec"][name] for name in StoreSpec.model_fields.keys() & body["spec"]}
    spec = StoreSpec.model_validate(known)
    return Root(spec, tuple(body.get("grown_from", ())), body["documents"], data)


def create(location: Location, spec: StoreSpec) -> Root:
    """Writes the metadata, the root last: a store whose root is there has all of it. Several
    processes may do so at once; the first root stays, which may be another's: see what is returned.
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

    The root comes first: from then on readers count the new buckets, of which none is committed.
    The arrays' documents, which only plain Zarr reads, may follow late: their earlier shape shows
    fewer rows, and `mend` brings them up to the root.
    """
    grown = _root_of(_resized(root.spec, rows), (*root.grown_from, root.spec.rows))
    location.replace(KEY, grown.data)
    mend(location, grown)
    return grown


def mend(location: Location, root: Root) -> None:
    """Rewrites metadata documents that a killed `grow` has left at an earlier size, and removes
    its unfinished ones."""
    if not root.grown_from:
        return
    documents = documents_of(root.spec)
    location.sweep([*documents, KEY])
    for key, document in documents.items():
        if crc32c_hex(location.read(key)) != root.documents[key]:
            location.replace(key, document)


def documents_of(spec: StoreSpec) -> dict[str, bytes]:
    """Key -> content of every metadata document but the root."""
    documents = {f"{group}/{KEY}": group_document() for group in ("sites", "labels", "commits")}
    for layout in [*spec.site_layouts().values(), *spec.label_layouts().values()]:
        documents[f"{layout.path}/{KEY}"] = encode_json(layout.metadata())
    return documents


def as_json(spec: StoreSpec) -> dict[str, Any]:
    """The spec as it reads back from disk (tuples are lists, keys are text)."""
    return json.loads(json.dumps(spec.model_dump(mode="json")))


def _resized(spec: StoreSpec, rows: int) -> StoreSpec:
    return spec.model_copy(update={"rows": rows})


def _root_of(spec: StoreSpec, grown_from: tuple[int, ...]) -> Root:
    """The root of a store of this spec, as it is written."""
    documents = {key: crc32c_hex(document) for key, document in documents_of(spec).items()}
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
