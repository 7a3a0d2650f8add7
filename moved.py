"""Public modules that have moved: their old paths still import, and give the same modules.

Owns the table of paths, and the import finder for them. Python asks that finder last, when no
module has the name.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "store.arrays": "store.format.arrays",
    "store.codecs": "store.format.chunks.codecs",
    "store.commits": "store.format.commits",
    "store.copy": "store.tools.copy",
    "store.location": "store.place.location",
    "store.mixing": "store.tools.mixing",
    "store.reader": "store.read.reader",
    "store.shuffle": "store.format.permutations",
    "store.spec": "store.format.spec",
    "store.statistics": "store.tools.statistics",
    "store.stream": "store.read.stream",
    "store.verify": "store.tools.verify",
    "store.writer": "store.write.writer",
    "harvest.documents": "harvest.text.documents",
    "harvest.harvest": "harvest.rows.run",
    "harvest.hooks": "harvest.model.hooks",
    "harvest.sites": "harvest.model.sites",
    "harvest.tokenize": "harvest.tokens.run",
    "pipelines.corpus": "harvest.text.stdlib",
    "train.export": "train.sae.export",
    "train.fold": "train.run.fold",
    "train.sae_config": "train.sae.config",
    "train.sweep": "train.sweeps.sweep",
    "train.trainer": "train.run.trainer",
    "evaluate.evaluate": "evaluate.run",
    "evaluate.importance": "evaluate.measure.importance",
    "evaluate.lm_loss": "evaluate.measure.lm_loss",
    "evaluate.metrics": "evaluate.measure.metrics",
    "evaluate.report": "evaluate.page.report",
}
"""Old path -> new path, below the package."""


class _Alias(Loader):
    """Loads a module by its new path."""

    def __init__(self, path: str):
        self._path = path
        self._spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module at the new path; the import system then gives it the old path's spec."""
        module = import_module(self._path)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restores the module's own spec; its code has already run."""
        module.__spec__ = self._spec


class _Finder(MetaPathFinder):
    """Finds the old paths."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The alias of an old path; None for every other name."""
        package, _, name = fullname.partition(".")
        if package != __package__ or name not in MOVED:
            return None
        return ModuleSpec(fullname, _Alias(f"{package}.{MOVED[name]}"))


def keep_old_paths() -> None:
    """Makes the old paths importable; further calls do nothing."""
    if not any(type(finder) is _Finder for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
