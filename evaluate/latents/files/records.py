"""Records, one per latent: how they are framed in a file, and read back within bounds.

A frame is 4 bytes with a length (uint32, little-endian), then that many bytes: JSON, compressed by
zlib. The offsets are in a file of their own: latent i's frame is bytes [offset i, offset i + 1).
circuit-tracer's page reads frames by HTTP range.
"""

import json
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float, Int

from ....foreign import parse_json
from ....machine import available_cores

_Item = TypeVar("_Item")

LEVEL = 9
"""zlib's level; fixed, so that the same records give the same bytes."""

_MOST_BYTES = 2**24
"""A larger record is refused; ours have about 10 KB."""

_HEADER = 4
_DIGITS = 6


def json_text(value: Any) -> str:
    """Compact JSON; ValueError for NaN and infinities."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def frame(text: str) -> bytes:
    """A record's bytes in the file: their length, then the compressed JSON."""
    data = zlib.compress(text.encode(), LEVEL)
    return len(data).to_bytes(_HEADER, "little") + data


def side_by_side(items: Iterable[_Item], work: Callable[[_Item], bytes]) -> Iterator[bytes]:
    """`work(item)` of every item, in order, by as many threads as there are cores.

    Half of the time of writing an index is spent in zlib, which releases the interpreter's lock.
    """
    n = available_cores()
    waiting: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(n) as pool:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * n:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def framed(records: Iterable[Any], ends: list[int]) -> Iterator[bytes]:
    """The records' frames in order; `ends` is filled with where each ends, in bytes."""
    end = 0
    for part in side_by_side(map(json_text, records), frame):
        end += len(part)
        ends.append(end)
        yield part


def offsets(ends: list[int]) -> Int[np.ndarray, " n_plus_1"]:
    """Where each frame begins, and the end of the last one: uint64, little-endian."""
    return np.array([0, *ends], dtype="<u8")


def rounded(values: Float[np.ndarray, "..."], digits: int = _DIGITS) -> Any:
    """Numbers with `digits` significant digits, as lists of floats.

    By default the relative error is at most 5e-6.
    """
    x = np.asarray(values, dtype=np.float64)
    with np.errstate(divide="ignore"):
        digits_behind = digits - 1 - np.floor(np.log10(np.abs(x)))
    behind = np.where(x == 0, 0, digits_behind)
    # Powers of ten are exact up to 22: a division by one rounds to the decimal's nearest float64.
    scale = 10.0 ** np.clip(np.abs(behind), 0, 22)
    whole = np.where(behind >= 0, np.rint(x * scale) / scale, np.rint(x / scale) * scale)
    return np.where(np.abs(behind) > 22, x, whole).tolist()


def number(value: float) -> float:
    """One number, as `rounded`."""
    return float(f"{value:.{_DIGITS}g}")


class Records:
    """The records of a file, read one at a time.

    Raises:
        ValueError, OSError: the offsets or the file do not fit d_sae records; raised when made.
    """

    def __init__(self, path: Path, offsets_path: Path, d_sae: int):
        self.path, self._d_sae = path, d_sae
        self._offsets = self._read_offsets(offsets_path)

    def raw(self, latent: int) -> bytes:
        """A latent's JSON.

        Raises:
            IndexError: there is no such latent.
            ValueError: latent is no whole number, or its frame is damaged.
        """
        if not isinstance(latent, int | np.integer):
            raise ValueError(f"latent must be a whole number, got {latent!r:.80}")
        if not 0 <= latent < self._d_sae:
            raise IndexError(f"latent must be 0 to {self._d_sae - 1}, got {latent}")
        start, stop = int(self._offsets[latent]), int(self._offsets[latent + 1])
        with self.path.open("rb") as file:
            data = os.pread(file.fileno(), stop - start, start)
        if int.from_bytes(data[:_HEADER], "little") != len(data) - _HEADER:
            raise self._damaged(latent, "its length is not that of its frame")
        inflater = zlib.decompressobj()
        try:
            text = inflater.decompress(data[_HEADER:], _MOST_BYTES)
        except zlib.error as error:
            raise self._damaged(latent, str(error)) from error
        if not inflater.eof or inflater.unused_data:
            raise self._damaged(latent, "its end is missing, or it is too large")
        return text

    def read(self, latent: int) -> dict[str, Any]:
        """A latent's record; errors as `raw`."""
        record = parse_json(self.raw(latent), f"latent {latent} in {self.path}")
        if not isinstance(record, dict):
            raise self._damaged(latent, "it is no JSON object")
        return record

    def _read_offsets(self, path: Path) -> np.ndarray:
        size = path.stat().st_size
        if size != 8 * (self._d_sae + 1):
            raise ValueError(
                f"{path} must hold {self._d_sae + 1:,} offsets of 8 bytes, got {size:,} bytes; "
                "make the index again"
            )
        found = np.fromfile(path, dtype="<u8")
        whole = self.path.stat().st_size
        lengths = np.diff(found.astype(np.int64))
        if found[0] != 0 or found[-1] != whole or lengths.min() <= _HEADER:
            raise ValueError(
                f"{path} must divide the {whole:,} bytes of {self.path.name} into {self._d_sae:,} "
                "records, got other offsets; make the index again"
            )
        return found

    def _damaged(self, latent: int, why: str) -> ValueError:
        return ValueError(f"latent {latent} in {self.path} is damaged: {why}; make the index again")
