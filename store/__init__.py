"""Stores of tokens and of activations: writing, reading, shuffled streams.

Knows no model and no SAE. `place` is where bytes are, `format` what they mean (docs/format.md).
`write` and `read` make and use activation stores, `tokens` token stores; `tools` inspects, checks
and copies stores. Names are imported on first use, so that commands such as `scopeworks --help` do
not import torch and numcodecs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .format.arrays import DamagedStoreError as DamagedStoreError
    from .format.spec import StoreSpec as StoreSpec
    from .read.reader import ActivationStore as ActivationStore
    from .read.stream import Stream as Stream
    from .tokens import TokenStore as TokenStore
    from .write.writer import StoreWriter as StoreWriter

_HOMES = {
    "ActivationStore": "read.reader",
    "DamagedStoreError": "format.arrays",
    "StoreSpec": "format.spec",
    "StoreWriter": "write.writer",
    "Stream": "read.stream",
    "TokenStore": "tokens",
}

__all__ = [
    "ActivationStore",
    "DamagedStoreError",
    "StoreSpec",
    "StoreWriter",
    "Stream",
    "TokenStore",
]


def __getattr__(name: str) -> Any:
    """Imports a public name from its module when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
