"""Gemma Scope end to end: harvest activations once, train and evaluate JumpReLU SAEs on them."""

from typing import TYPE_CHECKING

from .machine import prepare
from .moved import keep_old_paths
from .public_names import public_names

prepare()  # before anything imports torch
keep_old_paths()

if TYPE_CHECKING:
    from .store.read.reader import ActivationStore as ActivationStore
    from .store.tokens import TokenStore as TokenStore
    from .train.sae.sae import SAE as SAE
    from .version import __version__ as __version__
else:
    __getattr__, __dir__, __all__ = public_names(
        __name__,
        {
            "ActivationStore": "store.read.reader",
            "SAE": "train.sae.sae",
            "TokenStore": "store.tokens",
            "__version__": "version",
        },
    )
