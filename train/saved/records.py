"""The records that a run writes for its continuation, checked when they are read.

Owns the JSON parts of a checkpoint and of a run's config.json. `sae.config` owns the record of the
SAE itself.
"""

from typing import Any

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from ...foreign import Document


class Used(Document):
    """What the last update really used."""

    lr: NonNegativeFloat
    """Its learning rate."""
    sparsity: float
    """Its λ; steering may have made it negative."""
    path: str
    """Backend and path that computed it, such as "cpu/screened" (`kernels.StepResult`)."""

    @property
    def backend(self) -> str:
        """The kernel."""
        return self.path.partition("/")[0]

    @property
    def encoder(self) -> str:
        """Precision of the encoder's product; see `StepSettings.encoder`."""
        path = self.path.partition("/")[2]
        return "float32" if path in ("dense", "sparse") else path


class MeansRecord(Document):
    """The sums of a metrics line that is not written yet."""

    since: NonNegativeInt
    n_updates: NonNegativeInt
    sums: dict[str, float]


class SteeringRecord(Document):
    """The controller of λ."""

    integral: float
    error: float = Field(ge=-1, le=1)
    moved: NonNegativeFloat


class CheckpointRecord(Document):
    """A checkpoint without its tensors."""

    step: PositiveInt
    stream: dict[str, NonNegativeInt]
    """Position of the stream after `step` batches."""
    settings: dict[str, Any]
    """The run's identity (`TrainSettings.identity`)."""
    store: dict[str, Any]
    """What its store holds (`TrainingRows.identity`)."""
    means: MeansRecord
    used: Used
    steering: SteeringRecord | None = None


class RunSettings(Document):
    """The part of a run's settings that is needed to decide about its folder; the rest is kept."""

    steps: PositiveInt


class RunRecord(Document):
    """A run's config.json."""

    settings: dict[str, Any]
    sae: dict[str, Any] | None
