"""The stable path of `format.bfloat16`: docs/format.md and Zarr's entry points name this one."""

from .format.bfloat16 import BFloat16, Buffer

__all__ = ["BFloat16", "Buffer"]
