"""Checks that a store's Zarr documents agree with its root.

Our own reader uses only the root's attributes; a wrong document would mislead plain Zarr.
"""

from collections.abc import Iterator
from typing import Any

from ...foreign import parse_json
from ..format.arrays import ArrayLayout
from ..format.root import KEY, Root
from ..format.spec import DOCUMENT_BYTES, crc32c_hex, group_document
from ..place.local import UnsafeObjectError
from ..place.location import Location, read_bounded

_FREE = ("cname", "clevel", "shuffle", "blocksize")
"""Settings of Blosc that a preset may change, since each frame describes itself."""


def document_problems(location: Location, root: Root) -> Iterator[str]:
    """One line per document that is not as it was written, or contradicts the root."""
    if not is_as_written(root.data):
        yield "zarr.json is not as it was written"
    spec = root.spec
    arrays = [*spec.site_layouts().values(), *spec.label_layouts().values()]
    layouts = {f"{layout.path}/{KEY}": layout for layout in arrays}
    for key, expected in root.documents.items():
        try:
            data = read_bounded(location, key, DOCUMENT_BYTES)
        except FileNotFoundError:
            yield f"{key} is missing"
            continue
        except UnsafeObjectError as error:
            yield str(error)
            continue
        found = crc32c_hex(data)
        if found not in root.accepted(key):
            yield f"{key} is damaged: its crc32c is {found}, written was {expected}"
        elif problem := _contradiction(data, key, layouts.get(key), root):
            yield f"{key} {problem}"


def is_as_written(data: bytes) -> bool:
    """Whether a group's document equals, byte for byte, what this package writes for its
    attributes."""
    return group_document(parse_json(data, KEY)["attributes"]["scopeworks"]) == data


def _contradiction(data: bytes, key: str, layout: ArrayLayout | None, root: Root) -> str | None:
    """How a document contradicts the root; None if it does not."""
    try:
        found = parse_json(data, "")
    except ValueError as error:
        return str(error).strip()
    expected = parse_json(group_document(), key) if layout is None else layout.metadata()
    if not isinstance(found, dict):
        return "is no Zarr document"
    for name, value in expected.items():
        said = found.get(name)
        if name == "attributes" or _fixed(said) == _fixed(value):
            continue
        if name == "shape" and layout is not None and _is_earlier(said, layout, root):
            continue
        return f"contradicts the root: {name} is {_shown(said)}, by the root it is {_shown(value)}"
    return None


def _fixed(value: Any) -> Any:
    """A value without the settings that a preset may change."""
    if isinstance(value, dict):
        return {name: _fixed(item) for name, item in value.items() if name not in _FREE}
    return [_fixed(item) for item in value] if isinstance(value, list) else value


def _is_earlier(shape: Any, layout: ArrayLayout, root: Root) -> bool:
    """Whether a shape is that of the array before the store grew."""
    return any(shape == list(layout.shape(rows)) for rows in root.grown_from)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
