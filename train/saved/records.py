"""What a run writes down for its continuation, as it is checked when it is read again.

Owns the JSON parts of a checkpoint and of a run's config.json. What is known of the SAE itself is
`sae.config`'s.
"""

from typing import Any

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from ...foreign import Document


class Used(Document):
    """What the last update was really made with."""

    lr: NonNegativeFloat
    """Its learning rate."""
    sparsity: float
    """Its λ; below 0 where steering brought it there."""
    path: str
    """What computed it: "cpu/screened" and the like (`kernels.StepResult`)."""

    @property
    def backend(self) -> str:
        """The kernel."""
        return self.path.partition("/")[0]

    @property
    def encoder(self) -> str:
        """How the encoder's product was made."""
        path = self.path.partition("/")[2]
        return "float32" if path in ("dense", "sparse") else path


class MeansRecord(Document):
    """The sums of a metrics line in the making."""

    since: NonNegativeInt
    n_updates: NonNegativeInt
    sums: dict[str, float]


class SteeringRecord(Document):
    """The controller of λ."""

    integral: float
    error: float = Field(ge=-1, le=1)
    moved: NonNegativeFloat


class CheckpointRecord(Document):
    """A checkpoint, but for its tensors."""

    step: PositiveInt
    stream: dict[str, NonNegativeInt]
    """Position of the stream after `step` batches."""
    settings: dict[str, Any]
    """The run's identity (`TrainSettings.identity`)."""
    store: dict[str, Any]
    """What its store is (`Source.identity`)."""
    means: MeansRecord
    used: Used
    steering: SteeringRecord | None = None


class RunSettings(Document):
    """The part of a run's settings that deciding about its folder needs; all of them are kept."""

    steps: PositiveInt


class RunRecord(Document):
    """A run's config.json."""

    settings: dict[str, Any]
    sae: dict[str, Any] | None
