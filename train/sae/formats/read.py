"""Which format lies at a path."""

from collections.abc import Callable
from pathlib import Path

from ..config import SAEConfig
from ..files import CONFIG_FILE, WEIGHTS_FILE
from . import gemma_scope, gemma_scope_2, sae_lens, trained
from .parts import Tensors

_READERS: dict[str, Callable[[Path], tuple[SAEConfig, Tensors]]] = {
    sae_lens.CONFIG_FILE: sae_lens.read,
    sae_lens.WEIGHTS_FILE: sae_lens.read,
    gemma_scope_2.WEIGHTS_FILE: gemma_scope_2.read,
    gemma_scope.PARAMS_FILE: lambda folder: gemma_scope.read(folder / gemma_scope.PARAMS_FILE),
    CONFIG_FILE: trained.read,
    WEIGHTS_FILE: trained.read,
}
"""A file that tells the format -> the reader of its folder, looked for in this order."""


def read_sae(path: Path) -> tuple[SAEConfig, Tensors]:
    """Reads whichever SAE lies at `path`.

    Raises:
        FileNotFoundError: nothing is there, or a part of it is missing.
        ValueError: no format that is known here, one with features a JumpReLU SAE does not have,
            or files that contradict themselves or one another.
    """
    if path.is_file():
        return gemma_scope.read(path) if path.suffix == ".npz" else read_sae(path.parent)
    if not path.is_dir():
        raise FileNotFoundError(
            f"SAE path {path} does not exist; pass a trained folder, a params.npz, a "
            "SAELens folder or a Gemma Scope 2 folder"
        )
    for name, reader in _READERS.items():
        if (path / name).is_file():
            return reader(path)
    raise ValueError(
        f"SAE folder {path} must hold one of {', '.join(_READERS)}, got "
        f"{', '.join(sorted(p.name for p in path.iterdir())[:6]) or 'nothing'}; "
        "pass the folder that train or export wrote"
    )
