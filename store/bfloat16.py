"""The stable import path of `format.bfloat16`, named by docs/format.md and Zarr's entry points."""

from .format.bfloat16 import BFloat16, Buffer

__all__ = ["BFloat16", "Buffer"]
