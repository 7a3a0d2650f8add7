"""The language model: `loading` it, its `sites`, and the `hooks` that read and replace them.

`families` has what is particular to one kind of model.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .loading import LanguageModel as LanguageModel
    from .loading import load_model as load_model
    from .loading import load_tokenizer as load_tokenizer

__all__ = ["LanguageModel", "load_model", "load_tokenizer"]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first asked for: the families alone need no torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import loading

    return getattr(loading, name)
