"""safetensors files one tensor at a time: no second copy of what is written or read.

Owns the layout of the file (https://github.com/huggingface/safetensors, "Format"): 8 bytes with the
header's length, a JSON header, the tensors' bytes. The library's own readers of remote bytes hold
the whole file beside the tensors, which doubles the memory of a resumed run. Where the bytes lie is
`store.location`'s.
"""

import json
import math
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..store.location import Location

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
    return _read_header(location, key)[0]


def read_tensors(
    location: Location, key: str, device: torch.device | str = "cpu"
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a file; each tensor is read into its place and moved to `device`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or no safetensors file.
    """
    metadata, entries, first = _read_header(location, key)
    tensors = {}
    for name, entry in entries.items():
        (start, stop), dtype = entry["data_offsets"], _DTYPES[entry["dtype"]]
        if math.prod(entry["shape"]) * dtype.itemsize != stop - start:
            raise ValueError(f"{name} of shape {entry['shape']} must not take {stop - start} bytes")
        tensor = torch.empty(entry["shape"], dtype=dtype)
        out = _bytes_of(tensor)
        for at in range(0, len(out), _BLOCK_BYTES):
            block = out[at : at + _BLOCK_BYTES]
            if location.read_into(key, first + start + at, block) != len(block):
                raise ValueError(f"{name} must be whole, got a part of it")
        tensors[name] = tensor.to(device)
    return metadata, tensors


def _read_header(
    location: Location, key: str
) -> tuple[dict[str, str], dict[str, dict[str, Any]], int]:
    """Metadata, the tensors' entries, and where in the file the tensors begin."""
    size = location.size(key)
    first = 8 + int.from_bytes(location.read(key, 0, 8), "little")
    if not 8 < first <= size:
        raise ValueError(f"its header must lie within its {size} bytes")
    entries = json.loads(location.read(key, 8, first))
    metadata = entries.pop("__metadata__", {})
    if first + max((entry["data_offsets"][1] for entry in entries.values()), default=0) != size:
        raise ValueError(f"its tensors must end with its {size} bytes")
    return metadata, entries, first


def _bytes_of(tensor: Tensor) -> np.ndarray:
    """The memory of a contiguous CPU tensor as uint8."""
    return tensor.reshape(-1).view(torch.uint8).numpy()
