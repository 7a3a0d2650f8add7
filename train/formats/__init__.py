"""SAEs on disk, whoever wrote them: one module a format, each reads and writes it.

Owns the table of formats and the detection. Every reader gives the config and the tensors of a
folded SAE (raw activations in and out), checked against what the file declares. To add a format:
one module with `MARKS`, `read` and, if others load it, `write`, and one row here.
"""

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from ..sae_config import SAEConfig
from . import gemma_scope, gemma_scope_2, sae_lens, trained
from .hook_names import hook_names, site_of_hook, width_name
from .reading import Tensors, check_read
from .trained import trained_config

if TYPE_CHECKING:
    from ..sae import SAE

__all__ = [
    "WRITERS",
    "Tensors",
    "hook_names",
    "read_sae",
    "site_of_hook",
    "trained_config",
    "width_name",
    "write_sae",
]

READERS: tuple[ModuleType, ...] = (sae_lens, gemma_scope_2, gemma_scope, trained)
"""In the order in which a folder is asked; the first whose mark is there reads it."""
WRITERS: dict[str, ModuleType] = {
    "gemma-scope": gemma_scope,
    "sae-lens": sae_lens,
    "gemma-scope-2": gemma_scope_2,
}


def read_sae(path: Path) -> tuple[SAEConfig, Tensors]:
    """Reads whichever SAE is at `path`.

    Raises:
        FileNotFoundError: nothing is there, or a part of it is missing.
        ValueError: no format that is known here, one with features a JumpReLU SAE does not have, or
            one whose parts contradict each other.
    """
    if path.is_file():
        if path.suffix == ".npz":
            return check_read(path, *gemma_scope.read_file(path))
        return read_sae(path.parent)
    if not path.is_dir():
        raise FileNotFoundError(
            f"SAE path {path} does not exist; pass a trained folder, a params.npz, a "
            "SAELens folder or a Gemma Scope 2 folder"
        )
    for module in READERS:
        if any((path / name).is_file() for name in module.MARKS):
            return check_read(path, *module.read(path))
    names = [name for module in READERS for name in module.MARKS]
    raise ValueError(
        f"SAE folder {path} must hold one of {', '.join(names)}, got "
        f"{', '.join(sorted(p.name for p in path.iterdir())[:6]) or 'nothing'}; "
        "pass the folder that train or export wrote"
    )


def write_sae(sae: "SAE", format: str, out: Path) -> Path:
    """Writes an SAE under `out`; returns the folder that a loader takes.

    Raises:
        ValueError: the format has no place for this SAE, or the folder holds something else.
    """
    return WRITERS[format].write(sae, out)
