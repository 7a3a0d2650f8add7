"""The Zarr v3 data type `bfloat16`, so that zarr-python and Dask read our arrays.

Registered through entry points: where this package is installed, zarr finds the type without an
import. TensorStore has a bfloat16 of that name. When zarr has its own too, remove this module and
its entry points; the bytes on disk stay as they are.

zarr 3.1 collects the entry point group `zarr.data_type` but never loads it (repaired in zarr 3.4.2;
3.1.6 is the last version for Python 3.11). It does load the group `zarr.buffer` when a Zarr group
is opened. So this module is also registered there, with zarr's own buffer class as the object, and
registers the type when it is loaded. One case is left with those versions: `zarr.open_array` and
`dask.array.from_zarr` on an array's own URL, with no group opened before, need
`import scopeworks.store.bfloat16` first.
"""

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeGuard

import ml_dtypes
import numpy as np
from zarr.core.buffer.cpu import Buffer
from zarr.core.dtype.common import DataTypeValidationError, HasEndianness, HasItemSize
from zarr.dtype import ZDType, data_type_registry

__all__ = ["BFloat16", "Buffer"]

_NATIVE = np.dtype(ml_dtypes.bfloat16)
_SPECIAL = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


@dataclass(frozen=True, kw_only=True)
class BFloat16(ZDType[Any, Any], HasEndianness, HasItemSize):
    """bfloat16: the upper 16 bits of an IEEE float32. Zarr v3 only; v2 has no name for it."""

    dtype_cls = type(_NATIVE)
    _zarr_v3_name: ClassVar[str] = "bfloat16"

    @property
    def item_size(self) -> int:
        """Bytes of one scalar."""
        return 2

    @classmethod
    def from_native_dtype(cls, dtype: Any) -> Self:
        """The Zarr type of numpy's (ml_dtypes') bfloat16."""
        if not isinstance(dtype, cls.dtype_cls):
            raise DataTypeValidationError(f"dtype must be bfloat16, got {dtype}")
        return cls(endianness="big" if dtype.byteorder == ">" else "little")

    def to_native_dtype(self) -> Any:
        """numpy's dtype, in the byte order of the stored array."""
        return _NATIVE.newbyteorder(">" if self.endianness == "big" else "<")

    @classmethod
    def _from_json_v2(cls, data: Any) -> Self:
        raise DataTypeValidationError(f"Zarr v2 has no bfloat16, got {data!r}")

    @classmethod
    def _from_json_v3(cls, data: Any) -> Self:
        """Both spellings of an extension type: the bare name, and {"name": …} without
        configuration."""
        if isinstance(data, Mapping) and not data.get("configuration"):
            data = data.get("name")
        if data != cls._zarr_v3_name:
            raise DataTypeValidationError(f"data type must be {cls._zarr_v3_name!r}, got {data!r}")
        return cls()

    def to_json(self, zarr_format: int) -> Any:
        """The type's name in `zarr.json`."""
        if zarr_format != 3:
            raise ValueError(f"zarr_format must be 3 for bfloat16, got {zarr_format}")
        return self._zarr_v3_name

    def _check_scalar(self, data: object) -> TypeGuard[Any]:
        return isinstance(data, float | int | np.floating | np.integer | ml_dtypes.bfloat16)

    def cast_scalar(self, data: object) -> Any:
        """A number as a bfloat16 scalar, rounded to nearest even."""
        if not self._check_scalar(data):
            raise TypeError(f"bfloat16 scalar must be a number, got {data!r}")
        return ml_dtypes.bfloat16(data)

    def default_scalar(self) -> Any:
        """The fill value if none is given."""
        return ml_dtypes.bfloat16(0)

    def from_json_scalar(self, data: Any, *, zarr_format: int) -> Any:
        """A fill value: a number, "NaN", "Infinity", "-Infinity", or the two bytes as "0x7fc0"."""
        if isinstance(data, str) and re.fullmatch("0x[0-9a-fA-F]{4}", data):
            bits = struct.pack("<I", int(data, 16) << 16)
            return ml_dtypes.bfloat16(struct.unpack("<f", bits)[0])
        if isinstance(data, str) and data not in _SPECIAL:
            raise TypeError(f"bfloat16 fill value must be a number, got {data!r}")
        return self.cast_scalar(_SPECIAL[data] if isinstance(data, str) else data)

    def to_json_scalar(self, data: object, *, zarr_format: int) -> Any:
        """The inverse of `from_json_scalar`."""
        value = float(self.cast_scalar(data))
        if math.isnan(value):
            return "NaN"
        return {float("inf"): "Infinity", float("-inf"): "-Infinity"}.get(value, value)


data_type_registry.register(BFloat16._zarr_v3_name, BFloat16)
