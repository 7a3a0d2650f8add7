"""The table of formats, one row each; their modules are imported when they are used.

Decides which format a path holds. To add a format: a module with `read` and `files`, and a row.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....store.place.files import stamp

if TYPE_CHECKING:
    from ..config import SAEConfig
    from .shared.reading import Tensors


@dataclass(frozen=True)
class Format:
    """A file format of SAEs."""

    module: str
    """Module in this folder, with two functions.

    `read(path)` returns config and tensors of the folder, or of a single file; see `read_sae`.
    `files(config, tensors)` returns the folder's name below the one asked for ("" for that one),
    and its files in the order in which they are written, each as parts of bytes. The last file
    completes the SAE. It raises ValueError if the format cannot hold the SAE.
    """
    title: str
    """For messages, such as "a params.npz"."""
    told_by: tuple[str, ...]
    """Files by which its folder is recognised; each is enough, and the last has the tensors."""
    beside: tuple[str, ...] = ()
    """Further files of the format, which may be missing."""
    alone: str | None = None
    """Suffix of a single file that is an SAE."""
    export: str | None = None
    """Name for `export --format`; None for the format that training writes."""
    wants_gain: bool = False
    """Whether the format has a name for the output of the norm before an MLP, but not for its
    input without gain: then `export --model` folds the gain into a transcoder."""

    @property
    def weights(self) -> str:
        """The file with the tensors."""
        return self.told_by[-1]

    def read(self, path: Path) -> tuple["SAEConfig", "Tensors"]:
        """Config and tensors of the SAE at the path; errors as `read_sae`."""
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
"""Every format, in the order in which a folder is tested for them."""

EXPORTED = {row.export: row for row in FORMATS if row.export is not None}
"""The formats of `export --format`, by name."""


def sae_stamp(path: Path) -> Any:
    """The `stamp` of an SAE's files, in any format: equal as long as none was written again."""
    folder = path if path.is_dir() else path.parent
    names = {name for row in FORMATS for name in (*row.told_by, *row.beside)} | {path.name}
    return stamp(folder / name for name in sorted(names))


def read_sae(path: Path) -> tuple["SAEConfig", "Tensors"]:
    """Reads the SAE at `path`, in any format.

    Raises:
        FileNotFoundError: nothing is there, or a file is missing.
        ValueError: the format is unknown, the SAE is of a kind that is not supported, or its files
            contradict each other.
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
