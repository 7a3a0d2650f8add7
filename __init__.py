"""Gemma Scope end to end: harvest activations once, train and evaluate JumpReLU SAEs on them."""

from typing import TYPE_CHECKING, Any

from .machine import prepare
from .moved import keep_old_paths

if TYPE_CHECKING:
    from .store import ActivationStore
    from .train.sae.sae import SAE

__all__ = ["SAE", "ActivationStore"]

prepare()  # before anything imports torch
keep_old_paths()


def __getattr__(name: str) -> Any:
    """Imports the public names when they are first asked for: torch is no part of `--help`."""
    if name == "ActivationStore":
        from .store import ActivationStore

        return ActivationStore
    if name == "SAE":
        from .train.sae.sae import SAE

        return SAE
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
