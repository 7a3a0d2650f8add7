"""Public names of a package: all listed in its `dir()`, each imported when it is first used.

Owns the mechanism behind `from scopeworks import SAE`: from a table of names, a package gets its
`__getattr__`, `__dir__` and `__all__` (PEP 562). Each package has its own table, and repeats it as
imports that only editors and type checkers see. So torch, transformers and numba are imported only
with the first name that needs them.
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
    """The `__getattr__`, `__dir__` and `__all__` of a package.

    Args:
        package: its `__name__`.
        homes: public name -> module below the package that has it; None if the name is a module.
    """
    names = sorted(homes)

    def get(name: str) -> Any:
        """Imports a public name; `AttributeError` with the nearest names for any other."""
        if name not in homes:
            hint = _elsewhere(package, homes, name) or _hint(name, names)
            raise AttributeError(f"module {package!r} has no attribute {name!r}{hint}")
        module = import_module(f".{homes[name] or name}", package)
        value = module if homes[name] is None else getattr(module, name)
        setattr(sys.modules[package], name, value)  # the next use does not come here
        return value

    def listed() -> list[str]:
        """The public names, and those that every module has."""
        own = [name for name in vars(sys.modules[package]) if name.startswith("__")]
        return sorted({*own, *names})

    return get, listed, [name for name in names if not name.startswith("__")]


def _elsewhere(package: str, homes: Mapping[str, str | None], name: str) -> str:
    """A hint at the package's modules that have exactly this name; "" if none has."""
    modules = [f"{package}.{module}" for module, home in homes.items() if home is None]
    found = [module for module in modules if name in import_module(module).__all__]
    return f"; it is in {' and '.join(found)}" if found else ""


def _hint(name: str, names: list[str]) -> str:
    """A hint at similar names; "" for names with an underscore, which Python itself looks up."""
    if name.startswith("_"):
        return ""
    inside = [known for known in names if name.lower() in known.lower()]
    close = inside or difflib.get_close_matches(name, names, n=_SHOWN)
    return f"; did you mean {' or '.join(close[:_SHOWN])}?" if close else ""
