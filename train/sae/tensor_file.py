"""Reads and writes safetensors files one tensor at a time, without a second copy in memory.

The layout (https://github.com/huggingface/safetensors, "Format") is

    bytes 0 … 7        length n of the header, uint64, little endian
    bytes 8 … 8 + n    JSON: {"__metadata__": {…}, NAME: {"dtype", "shape", "data_offsets"}, …}
    the rest           the tensors' bytes, C order, little endian, without gaps; data_offsets
                       [start, end] count from the end of the header

The library's own readers of remote files hold the whole file beside the tensors, which doubles the
memory of a continued run. `store.place.location` reads and writes the bytes.
"""

import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, cast

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
_BLOCK_BYTES = 1 << 26  # of one read; a block of a remote file is held beside the tensor
_HEADER_BYTES = 100_000_000  # the library's limit

Size = Annotated[int, Field(ge=0, lt=2**48)]


class _Entry(Document):
    """A header's entry for one tensor."""

    dtype: Literal["F64", "F32", "BF16", "F16", "I64", "I32"]
    shape: tuple[Size, ...] = Field(max_length=8)
    data_offsets: tuple[Size, Size]


class _Header(Document):
    """A file's header."""

    metadata: dict[str, str]
    tensors: dict[str, _Entry]


@dataclass(frozen=True)
class Blocks:
    """A tensor that is written without ever being whole in memory.

    Attributes:
        shape, dtype: of the whole tensor.
        blocks: its rows, in order; each block is written before the next one is made.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    blocks: Iterator[Tensor]


def file_parts(
    tensors: Mapping[str, Tensor | Blocks], metadata: dict[str, str] | None = None
) -> Iterator[bytes]:
    """A safetensors file as parts to be written one after the other; equal tensors give equal
    bytes.

    A contiguous CPU tensor's part is a view of its memory; others are copied one at a time.
    """
    order = written_order(tensors)
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, tensor in order:
        start, end = end, end + math.prod(tensor.shape) * tensor.dtype.itemsize
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, allow_nan=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors then begin at a multiple of 8
    yield len(text).to_bytes(8, "little") + text
    for _, tensor in order:
        for block in [tensor] if isinstance(tensor, Tensor) else tensor.blocks:
            # A file takes any buffer; bytes() would copy.
            yield cast(bytes, _bytes_of(block.detach().cpu().contiguous()).data)


TensorT = TypeVar("TensorT", Tensor, Blocks, Tensor | Blocks)


def written_order(tensors: Mapping[str, TensorT]) -> list[tuple[str, TensorT]]:
    """The order of tensors in a file: those with the largest items first, so that every tensor
    begins at a multiple of its item's size."""
    return sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))


def read_metadata(location: Location, key: str) -> dict[str, str]:
    """The metadata of a file, without its tensors; errors as `read_tensors`."""
    return _read_header(location, key)[0].metadata


def stand_ins(location: Location, key: str) -> dict[str, Tensor]:
    """The tensors' shapes and dtypes, as tensors without memory (torch's `meta` device). Checks
    that the file has the length that they need; errors as `read_tensors`."""
    return TensorFile(location, key).tensors


def read_tensors(
    location: Location,
    key: str,
    device: torch.device | str = "cpu",
    names: Collection[str] | None = None,
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a file; each tensor is read without a copy and moved to `device`.

    Args:
        location: the folder.
        key: the file.
        device: where the tensors go.
        names: the tensors to read; all by default.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or no safetensors file.
    """
    file = TensorFile(location, key)
    wanted = [name for name in file.tensors if names is None or name in names]
    return file.metadata, {name: file.tensor(name).to(device) for name in wanted}


class TensorFile:
    """A file whose header has been read; its tensors, or some rows of them, are read on request.

    Attributes:
        metadata: the header's.
        tensors: shapes and dtypes by name, as tensors without memory.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or no safetensors file.
    """

    def __init__(self, location: Location, key: str):
        self._location, self._key = location, key
        header, self._first = _read_header(location, key)
        self.metadata, self._entries = header.metadata, header.tensors
        self.tensors = {
            name: torch.empty(entry.shape, dtype=_DTYPES[entry.dtype], device="meta")
            for name, entry in header.tensors.items()
        }

    def tensor(self, name: str) -> Tensor:
        """A tensor, read whole."""
        whole = self.tensors[name]
        out = torch.empty(whole.shape, dtype=whole.dtype)
        self._fill(name, 0, _bytes_of(out))
        return out

    def rows_into(self, name: str, first: int, out: Tensor) -> None:
        """Reads the rows [first, first + len(out)) into `out`, a contiguous CPU tensor."""
        whole = self.tensors[name]
        if whole.dtype != out.dtype or whole.shape[1:] != out.shape[1:]:
            raise ValueError(f"{name} must be rows of {list(out.shape[1:])} {out.dtype}")
        row_bytes = math.prod(whole.shape[1:]) * whole.dtype.itemsize
        self._fill(name, first * row_bytes, _bytes_of(out))

    def _fill(self, name: str, start: int, out: np.ndarray) -> None:
        """Reads bytes of a tensor from `start` on, as many as `out` takes."""
        begin, stop = self._entries[name].data_offsets
        if begin + start + len(out) > stop:
            raise ValueError(f"{name} must be whole, got a part of it")
        for at in range(0, len(out), _BLOCK_BYTES):
            block, where = out[at : at + _BLOCK_BYTES], self._first + begin + start + at
            if self._location.read_into(self._key, where, block) != len(block):
                raise ValueError(f"{name} must be whole, got a part of it")


def _read_header(location: Location, key: str) -> tuple[_Header, int]:
    """The header, and the byte at which the tensors begin. Checks that they fill the rest of the
    file without gaps."""
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
