"""The table of formats: one row each. It is light, the modules are imported where they are used.

Owns which format a path holds. To add one: a module with `read` and `files`, and a row.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..config import SAEConfig
    from .shared.reading import Tensors


@dataclass(frozen=True)
class Format:
    """A way in which an SAE is in files."""

    module: str
    """In this folder, with two functions.

    `read(path)` gives config and tensors of the folder, or of the lone file; see `read_sae`.
    `files(config, tensors)` gives the name of the folder to be made, "" for the one that is asked
    for, and its files, each as parts of bytes, in the order in which they are written: with the
    last one the SAE is complete. It raises ValueError where the format cannot hold the SAE.
    """
    title: str
    """For people, such as "a params.npz"."""
    told_by: tuple[str, ...]
    """Files by each of which its folder is told from others'; the last one has the tensors."""
    beside: tuple[str, ...] = ()
    """Further files that belong to it, as far as they are there."""
    alone: str | None = None
    """Suffix of a file that is an SAE by itself."""
    export: str | None = None
    """Name for `export --format`; None for what training alone writes."""
    wants_gain: bool = False
    """Whether it names the output of the norm before an MLP, so that `export --model` folds the
    norm's gain into a transcoder that reads the vector without it."""

    @property
    def weights(self) -> str:
        """The file with the tensors."""
        return self.told_by[-1]

    def read(self, path: Path) -> tuple["SAEConfig", "Tensors"]:
        """What lies at the path; errors as `read_sae`."""
        return self._code().read(path)

    def files(self, config: "SAEConfig", tensors: "Tensors") -> tuple[str, dict[str, Any]]:
        """Folder and files of an SAE in this format."""
        return self._code().files(config, tensors)

    def _code(self) -> Any:
        return import_module(f".{self.module}", __package__)


FORMATS = (
    Format(
        "sae_lens",
        "a SAELens folder",
        ("cfg.json", "sae_weights.safetensors"),
        beside=("activation_scaler.json",),
        export="sae-lens",
    ),
    Format(
        "gemma_scope_2",
        "a Gemma Scope 2 folder",
        ("params.safetensors",),
        beside=("config.json",),
        export="gemma-scope-2",
        wants_gain=True,
    ),
    Format(
        "gemma_scope",
        "a params.npz",
        ("params.npz",),
        beside=("origin.json",),
        alone=".npz",
        export="gemma-scope",
    ),
    Format("trained", "a trained folder", ("config.json", "sae.safetensors")),
)
"""Every format, in the order in which a folder is asked whether it is of it."""

EXPORTED = {row.export: row for row in FORMATS if row.export is not None}
"""Name for `export --format` -> format."""


def read_sae(path: Path) -> tuple["SAEConfig", "Tensors"]:
    """Reads whichever SAE lies at `path`.

    Raises:
        FileNotFoundError: nothing is there, or a part of it is missing.
        ValueError: no format that is known here, one with features a JumpReLU SAE does not have,
            or files that contradict themselves or one another.
    """
    if path.is_file():
        alone = [row for row in FORMATS if row.alone == path.suffix]
        return alone[0].read(path) if alone else read_sae(path.parent)
    if not path.is_dir():
        *titles, last = (row.title for row in FORMATS)
        raise FileNotFoundError(
            f"SAE path {path} does not exist; pass {', '.join(titles)} or {last}"
        )
    for row in FORMATS:
        if any((path / name).is_file() for name in row.told_by):
            return row.read(path)
    raise ValueError(
        f"SAE folder {path} must hold one of "
        f"{', '.join(name for row in FORMATS for name in row.told_by)}, got "
        f"{', '.join(sorted(p.name for p in path.iterdir())[:6]) or 'nothing'}; "
        "pass the folder that train or export wrote"
    )
