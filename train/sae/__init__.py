"""The sparse autoencoder: `sae` computes, `formats` reads and writes it, `export` converts it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .sae import SAE as SAE

__all__ = ["SAE"]


def __getattr__(name: str) -> Any:
    """Imports the class when it is first used: other users of this package need no torch."""
    if name == "SAE":
        from .sae import SAE

        return SAE
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
