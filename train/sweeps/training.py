"""Training from Python: one SAE, or a sweep whose settings may have several values.

Owns what a call returns. `run.trainer` trains, `sweep` makes the members.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...arguments import is_one, several
from ...verbs import takes
from ..run.trainer import run
from ..sae.sae import SAE
from ..settings import TrainSettings
from .sweep import expand, sweep


@takes(TrainSettings)
def train_sae(settings: TrainSettings, resume: bool = False, wait: bool = False) -> SAE:
    """Trains one SAE from a store, or continues a stopped run; an SAE that is there is read.

    Args:
        settings: see `TrainSettings`.
        resume: insist that there is a run to continue; `steps` may then be raised.
        wait: for another process that owns the folder to end.

    Returns:
        The trained SAE, on the CPU; its folder is `settings.out`.

    Raises:
        ValueError: settings, store, device and folder do not fit together, or the loss is not
            finite.
        OSError: the store or the folder cannot be read or written.
    """
    (folder,) = run([settings], resume, wait=wait)
    return SAE.load(folder)


def train_sweep(
    out: str | Path,
    *,
    config: str | Path | None = None,
    dask: str | None = None,
    devices: str | None = None,
    resume: bool = False,
    wait: bool = False,
    **settings: Any,
) -> list[Path]:
    """Trains many SAEs on one stream: each batch is read once. Settings that are lists are
    combined, `sparsity` and `target_l0` as alternatives.

        train_sweep("saes", store="activations", site="resid_post.12", width=[4096, 16384],
                    target_l0=[20, 80], steps=50_000)

    Args:
        out: folder of the sweep; its members have folders in it.
        config: a sweep.toml.
        dask: cluster to spread the members over: local:N, a scheduler's address or file.
        devices: of this machine, with commas between them, to spread the members over.
        resume: insist that there are runs to continue.
        wait: for another sweep in `out` to end.
        settings: of `TrainSettings`, a value or, except for `store`, a list of several.

    Returns:
        The members' folders, which `SAE.load` reads.

    Raises:
        ValueError, OSError: as `train_sae`.
    """
    lists = {name: several(value) for name, value in settings.items() if _is_list(name, value)}
    single: Mapping[str, Any] = {n: value for n, value in settings.items() if n not in lists}
    file = None if config is None else Path(config)
    members = expand(Path(out), file, lists, **single)
    return sweep(members, Path(out), resume, wait, dask, devices)


def _is_list(name: str, value: Any) -> bool:
    """Whether a setting has several values; several stores are one source of rows."""
    return name != "store" and not is_one(value)
