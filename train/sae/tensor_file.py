"""safetensors files one tensor at a time: no second copy of what is written or read.

Owns the layout of the file (https://github.com/huggingface/safetensors, "Format"): 8 bytes with the
header's length, a JSON header, the tensors' bytes. The library's own readers of remote bytes hold
the whole file beside the tensors, which doubles the memory of a resumed run. Where the bytes lie is
`store.place.location`'s.
"""

import json
import math
from collections.abc import Collection, Iterator
from typing import Annotated, Any, Literal, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ...foreign import Document, parse_json, validated
from ...store.place.location import Location

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "I64": torch.int64,
    "I32": torch.int32,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_BLOCK_BYTES = 1 << 26  # one read; a remote one is held beside the tensor
_HEADER_BYTES = 100_000_000  # as in the library

Size = Annotated[int, Field(ge=0, lt=2**48)]


class _Entry(Document):
    """What a header says of one tensor."""

    dtype: Literal["F64", "F32", "BF16", "F16", "I64", "I32"]
    shape: tuple[Size, ...] = Field(max_length=8)
    data_offsets: tuple[Size, Size]


class _Header(Document):
    """A file's header."""

    metadata: dict[str, str]
    tensors: dict[str, _Entry]


def file_parts(
    tensors: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> Iterator[bytes]:
    """A safetensors file as parts to be written one after the other; equal tensors give equal
    bytes.

    A contiguous CPU tensor's part is a view of its memory; others are copied one at a time.
    """
    # The widest first, so that every tensor starts at a multiple of its item's size.
    order = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, tensor in order:
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, allow_nan=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for _, tensor in order:
        # A file takes any buffer; bytes() would be the copy that this module avoids.
        yield cast(bytes, _bytes_of(tensor.detach().cpu().contiguous()).data)


def read_metadata(location: Location, key: str) -> dict[str, str]:
    """The metadata of a file, without its tensors; errors as `read_tensors`."""
    return _read_header(location, key)[0].metadata


def stand_ins(location: Location, key: str) -> dict[str, Tensor]:
    """The tensors' shapes and dtypes, as tensors without memory (torch's `meta` device): the file
    has the length that they need; errors as `read_tensors`."""
    return {
        name: torch.empty(entry.shape, dtype=_DTYPES[entry.dtype], device="meta")
        for name, entry in _read_header(location, key)[0].tensors.items()
    }


def read_tensors(
    location: Location,
    key: str,
    device: torch.device | str = "cpu",
    names: Collection[str] | None = None,
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a file; each tensor is read into its place and moved to `device`.

    Args:
        location: the folder.
        key: the file.
        device: where the tensors go.
        names: the tensors to be read; all by default.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or no safetensors file.
    """
    header, first = _read_header(location, key)
    tensors = {}
    for name, entry in header.tensors.items():
        if names is not None and name not in names:
            continue
        tensor = torch.empty(entry.shape, dtype=_DTYPES[entry.dtype])
        out = _bytes_of(tensor)
        for at in range(0, len(out), _BLOCK_BYTES):
            block = out[at : at + _BLOCK_BYTES]
            if location.read_into(key, first + entry.data_offsets[0] + at, block) != len(block):
                raise ValueError(f"{name} must be whole, got a part of it")
        tensors[name] = tensor.to(device)
    return header.metadata, tensors


def _read_header(location: Location, key: str) -> tuple[_Header, int]:
    """The header, and where in the file the tensors begin; they fill the rest of it."""
    size = location.size(key)
    first = 8 + int.from_bytes(location.read(key, 0, 8), "little")
    if not 8 < first <= min(size, _HEADER_BYTES):
        raise ValueError(f"its header must lie within its {size} bytes")
    entries = parse_json(location.read(key, 8, first), "its header")
    if not isinstance(entries, dict):
        raise ValueError("its header must be a JSON object")
    metadata = entries.pop("__metadata__", {})
    header = validated(_Header, {"metadata": metadata, "tensors": entries}, "its header")
    at = 0
    for name, entry in sorted(header.tensors.items(), key=lambda item: item[1].data_offsets):
        start, stop = entry.data_offsets
        n_bytes = math.prod(entry.shape) * _DTYPES[entry.dtype].itemsize
        if stop - start != n_bytes:
            raise ValueError(
                f"{name} of shape {list(entry.shape)} must not take {stop - start} bytes"
            )
        if start != at:
            raise ValueError(f"{name} must begin where the tensor before it ends, at byte {at}")
        at = stop
    if first + at != size:
        raise ValueError(f"its tensors must end with its {size} bytes, got {first + at}")
    return header, first


def _bytes_of(tensor: Tensor) -> np.ndarray:
    """The memory of a contiguous CPU tensor as uint8."""
    return tensor.reshape(-1).view(torch.uint8).numpy()
