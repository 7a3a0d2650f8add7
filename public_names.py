"""Public names of a package: all of them in its `dir()`, each imported when it is first asked for.

Owns the one mechanism behind `from scopeworks import SAE` and its like: a table of names, from
which a package gets its `__getattr__`, `__dir__` and `__all__` (PEP 562). Which names there are,
each package says, once more as imports that only editors and type checkers see. Torch, transformers
and numba are imported with the first name that needs them.
"""

import difflib
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

_SHOWN = 3


def public_names(
    package: str, homes: Mapping[str, str | None]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """What a package sets as its `__getattr__`, `__dir__` and `__all__`.

    Args:
        package: its `__name__`.
        homes: public name -> module below the package that has it; None for a module itself.
    """
    names = sorted(homes)

    def get(name: str) -> Any:
        """Imports a public name; `AttributeError` with the nearest names for any other."""
        if name not in homes:
            raise AttributeError(
                f"module {package!r} has no attribute {name!r}{_hint(name, names)}"
            )
        module = import_module(f".{homes[name] or name}", package)
        value = module if homes[name] is None else getattr(module, name)
        setattr(sys.modules[package], name, value)  # asked for once
        return value

    def listed() -> list[str]:
        """The public names, and what every module has."""
        own = [name for name in vars(sys.modules[package]) if name.startswith("__")]
        return sorted({*own, *names})

    return get, listed, [name for name in names if not name.startswith("__")]


def _hint(name: str, names: list[str]) -> str:
    """The names that may have been meant; "" for Python's own, which it asks every module for."""
    if name.startswith("_"):
        return ""
    inside = [known for known in names if name.lower() in known.lower()]
    close = inside or difflib.get_close_matches(name, names, n=_SHOWN)
    return f"; did you mean {' or '.join(close[:_SHOWN])}?" if close else ""
