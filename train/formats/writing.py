"""What every format's writer needs: the folder for an export, and the layer for its name."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ..sae import SAE


def layer_of(sae: "SAE") -> str:
    """The layer number as text, from the site's name."""
    layer = (sae.config.site or "").partition(".")[2]
    if not layer.isdigit():
        raise ValueError(
            f"site must be known as <kind>.<layer> for the release's path names, got "
            f"{sae.config.site!r}; pass --site"
        )
    return layer


def check_folder(folder: Path, names: Sequence[str], sae: "SAE") -> None:
    """Refuses a folder that holds anything but this SAE's export, or a part of one that was killed.

    Args:
        folder: where the files go.
        names: the format's files, the last one of them written last.
        sae: what is to be written.
    """
    from . import read_sae

    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out must be a folder, got the file {folder}")
    # A file being written, or left by a killed export, has a name of its own and is nobody's work.
    present = (path.name for path in folder.iterdir()) if folder.is_dir() else iter(())
    present = {name for name in present if not name.endswith(".partial")}
    if names[-1] not in present:
        if foreign := sorted(present - set(names)):
            raise ValueError(
                f"out must be empty or hold an earlier export, got {folder} with "
                f"{', '.join(foreign[:5])} and without {names[-1]}"
            )
        return
    if not _same_tensors(read_sae(folder)[1], sae.tensors()):
        raise ValueError(
            f"out must not hold another SAE, got {folder}, whose numbers differ; pass another "
            "folder, one for each site"
        )


def _same_tensors(old: dict[str, Tensor], new: dict[str, Tensor]) -> bool:
    """Whether two SAEs are the same numbers."""
    return old.keys() == new.keys() and all(
        torch.equal(old[name].cpu(), tensor.float().cpu()) for name, tensor in new.items()
    )
