"""Stores of tokens and of activations: writing, reading, shuffled streams.

Knows no model and no SAE. `place` is where bytes are, `format` what they mean (docs/format.md).
`write` and `read` make and use activation stores, `tokens` token stores; `tools` inspects, checks
and copies stores. Names are imported on first use, so that commands such as `scopeworks --help` do
not import torch and numcodecs.
"""

from typing import TYPE_CHECKING

from ..public_names import public_names

if TYPE_CHECKING:
    from .format.arrays import DamagedStoreError as DamagedStoreError
    from .format.spec import StoreSpec as StoreSpec
    from .place.place import Place as Place
    from .read.reader import ActivationStore as ActivationStore
    from .read.stream import Stream as Stream
    from .tokens import TokenStore as TokenStore
    from .tools.copy import copy_store as copy_store
    from .tools.statistics import site_statistics as site_statistics
    from .tools.verify import verify_store as verify_store
    from .tools.verify import withdraw_buckets as withdraw_buckets
    from .write.writer import StoreWriter as StoreWriter
else:
    __getattr__, __dir__, __all__ = public_names(
        __name__,
        {
            "ActivationStore": "read.reader",
            "DamagedStoreError": "format.arrays",
            "Place": "place.place",
            "StoreSpec": "format.spec",
            "StoreWriter": "write.writer",
            "Stream": "read.stream",
            "TokenStore": "tokens",
            "copy_store": "tools.copy",
            "site_statistics": "tools.statistics",
            "verify_store": "tools.verify",
            "withdraw_buckets": "tools.verify",
        },
    )
