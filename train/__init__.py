"""From rows to SAEs: the step's `kernels`, the `sae`, a `run` and what is `saved` of it.

`settings` says what a run is, `sweeps` makes many on one stream, `frontier` compares them. From
Python, `train_sae` and `train_sweep` train, and `SAE` reads what was trained.
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
