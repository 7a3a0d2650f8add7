"""Trains SAEs: `kernels` compute a step, `run` trains, `saved` is on disk, `sae` is the result.

`settings` describes a run, `sweeps` trains many SAEs on one stream, `ranks` one SAE in several
processes, `frontier` compares the results. From Python, `train_sae` and `train_sweep` train, and
`SAE` reads what was trained.
"""

from typing import TYPE_CHECKING

from ..public_names import public_names

if TYPE_CHECKING:
    from .sae.config import SAEConfig as SAEConfig
    from .sae.export import export_sae as export_sae
    from .sae.sae import SAE as SAE
    from .settings import TrainSettings as TrainSettings
    from .sweeps.training import train_sae as train_sae
    from .sweeps.training import train_sweep as train_sweep
else:
    __getattr__, __dir__, __all__ = public_names(
        __name__,
        {
            "SAE": "sae.sae",
            "SAEConfig": "sae.config",
            "TrainSettings": "settings",
            "export_sae": "sae.export",
            "train_sae": "sweeps.training",
            "train_sweep": "sweeps.training",
        },
    )
